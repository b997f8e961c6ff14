"""What results files say of networks, samples and samplers, as tables in Markdown."""

from markdown_tables import table

from diffmath.ddpm.checkpoints import load_checkpoint

NUMBERS = {
    "frechet": "Fréchet",
    "kernel": "kernel",
    "sure": "confident",
    "coverage": "coverage",
    "imbalance": "balance",
    "background": "background",
    "energy": "energy of pixels",
}
"""The numbers by which samples are compared, and their names in tables."""


def training_of(name):
    """How a shipped network was trained, by the record in its file."""
    trained = load_checkpoint(name)
    record = trained.metadata
    minutes = round(record["seconds"] / 60)
    late = [loss for step, loss in record["losses"] if 3700 < step <= 4200]
    return {
        "parameters": f"{sum(p.numel() for p in trained.model.parameters()):,}",
        "epochs": round(record["images_seen"] / 60_000),
        "images": f"{record['images_seen']:,}",
        "time": f"{minutes // 60} hours {minutes % 60} minutes",
        "late loss": f"{sum(late) / len(late):.4f}",
        "rate": f"{record['settings']['learning_rate']:g}",
        "decay": record["settings"]["average_decay"],
    }


def sampler_of(row):
    """The name of a row's sampler and start."""
    names = {"ancestral": "Algorithm 2"}
    return names.get(row["method"], row["method"]) + ", matched start" * row["matched start"]


def table_of_variances(bias):
    """The variance of Algorithm 2's output over that of the data, for betas scaled with 1/T."""
    scaled = bias["betas scaled with 1/T, all steps"]
    rows = [[f"T = {r['T']:,}", *(f"{v:.5f}" for v in r["variance / s^2"])] for r in scaled]
    order = ["order in 1/T, last two rows", *(f"{o:.3f}" for o in bias["order, of the last two T"])]
    return table(["output variance / $s^2$", *(f"s = {s:g}" for s in bias["s"])], [*rows, order])


def table_of_networks(statistics):
    """Samples of each network by all steps of Algorithm 2, beside real images."""
    columns = [*statistics["samples"].values(), statistics["real MNIST test images"]]
    rows = [
        ["images", *(f"{c['images']:,}" for c in columns)],
        ["confidence above 0.9", *(f"{100 * c['share with confidence above 0.9']:.1f} %" for c in columns)],
        ["number of each digit, 0 to 9", *(" ".join(map(str, c["counts of digits 0 to 9"])) for c in columns)],
        ["mean of the border", *(f"{c['mean of the outer 4 pixels']:.3f}" for c in columns)],
        [
            "standard deviation of the border",
            *(f"{c['standard deviation of the outer 4 pixels']:.3f}" for c in columns),
        ],
    ]
    return table(["", *statistics["samples"], "real test images"], rows)


def table_of_ways(statistics):
    """Plain and guided samples by few steps of Algorithm 2, beside as many real images."""

    def pair(entry, digits=3, scale=1):
        return f"{scale * entry['value']:.{digits}f} ± {scale * entry['error']:.{digits}f}"

    rows = []
    for name, n in statistics["numbers"].items():
        gain = statistics["samples"].get(name, {}).get("surer than plain, in pairs")
        rows.append(
            [
                name,
                f"{n['n_images']:,}",
                f"{pair(n['confidence']['sure'], 1, 100)} %",
                f"{pair(gain, 1, 100)} points" if gain else "",
                pair(n["frechet"], 2),
                pair(n["kernel"], 4),
                pair(n["neighbours"]["coverage"]),
                pair(n["background"]["mean"]),
                pair(n["background"]["spread"]),
                pair(n["balance"]["distance"]),
                f"{100 * n['memorisation']['copies']['value']:g} %",
            ]
        )
    head = ["", "images", "confident", "more than plain", "Fréchet", "kernel", "coverage", "background", "its spread"]
    return table([*head, "balance", "copies"], rows)


def table_of_quality(quality, few=False):
    """Samplers by their number of evaluations."""
    numbers = [name for name in NUMBERS if name != "imbalance"]
    digits = {"frechet": 1, "sure": 1}

    def cells(row):
        for name in numbers:
            if name not in row or row[name] is None or row[name][0] is None:
                yield ""
                continue
            value, error = (100 * x if name == "sure" else x for x in row[name])
            d = digits.get(name, 3)
            yield f"{value:.{d}f} ± {error:.{d}f}" + " %" * (name == "sure")

    def wanted(row):
        best = row["method"] == "ancestral" and row["evaluations"] == 500 and not row["matched start"]
        quick = row["evaluations"] == 20 and row["matched start"] and row["method"] in ("ancestral", "dpmsolver++2m")
        return not few or best or quick

    rows = [
        [
            r["checkpoint"],
            sampler_of(r),
            r["evaluations"],
            r["samples"],
            *cells(r),
        ]
        for r in quality["rows"]
        if wanted(r)
    ]
    real = quality["real training images"]
    head = ["network", "sampler", "evaluations", "samples", *(NUMBERS[name] for name in numbers)]
    return table(head, [*rows, ["", "real training images", "", real["images"], *cells(real)]])


def table_of_quick_samplers(quality, reference):
    """By how many error bars samplers with 20 evaluations are worse than a reference, in bold if by more than one."""
    rows = [r for r in quality["quick samplers against Algorithm 2"] if r["against"] == reference]
    numbers = [name for name in NUMBERS if name in rows[0]]

    def cell(entry):
        bars = f"{entry['worse by, in error bars']:.1f}"
        return bars if entry["within the error bar"] else f"**{bars}**"

    lines = [[r["checkpoint"], sampler_of(r), r["evaluations"], *(cell(r[name]) for name in numbers)] for r in rows]
    return table(["network", "sampler", "evaluations", *(NUMBERS[name] for name in numbers)], lines)


def table_of_exceptions(quality):
    """In what Algorithm 2 with 20 steps from the matched start is worse than with all steps."""
    keys = ("worse by, in error bars", "in errors of the difference")
    rows = [
        [r["checkpoint"], NUMBERS[name], *(f"{r[name][key]:.2f}" for key in keys)]
        for r in quality["quick samplers against Algorithm 2"]
        if (r["method"], r["matched start"], r["against"]) == ("ancestral", True, "Algorithm 2 with 500")
        for name in NUMBERS
        if not r[name]["within the error bar"]
    ]
    return table(["network", "worse in", "by, in error bars", "in standard errors of the difference"], rows)


def table_of_movements(quality):
    """How far the features of samples from the same starts move beyond 50 evaluations."""
    rows = [
        [
            r["checkpoint"],
            sampler_of(r),
            r["the same starts"]["evaluations"],
            r["evaluations"],
            f"{move:.2f} ± {error:.2f}",
        ]
        for r in quality["rows"]
        if "features moved since" in r
        for move, error in [r["features moved since"]]
    ]
    return table(["network", "sampler", "from evaluations", "to", "the features move by"], rows)


def table_of_starts(runs):
    """How much too bright the exact sampler's output is, by sampler and start."""
    starts = list(dict.fromkeys(r["start"] for r in runs))
    off = {(r["sampler"], r["steps"], r["start"]): r["brightness off by"] for r in runs}
    rows = [
        [f"{steps} steps of {name}", *(f"{abs(off[name, steps, start]):.4f}" for start in starts)]
        for name, steps in dict.fromkeys((r["sampler"], r["steps"]) for r in runs)
    ]
    return table(["too bright by, from", *starts], rows)


def table_of_brightness(samples):
    """Mean brightness of samples from two starts, and of real images."""
    rows = [
        [name, f"{samples[name]['mean brightness']:.3f} ± {samples[name]['its standard error']:.3f}"]
        for name in ("from N(0, I)", "from the matched start", "real test images")
    ]
    return table(["", "mean brightness"], rows)


def table_of_digits(runs):
    """Zeros and ones among samples of an exact denoiser, by sampler and start."""
    starts = list(dict.fromkeys(r["start"] for r in runs))
    names = dict.fromkeys((r["sampler"], r["steps"]) for r in runs)
    counts = {(r["sampler"], r["steps"], r["start"]): r["counts of digits 0 to 9"][:2] for r in runs}
    rows = [
        [f"{steps} steps of {name}", *(" and ".join(map(str, counts.get((name, steps, s), ()))) for s in starts)]
        for name, steps in names
    ]
    return table(["zeros and ones from", *starts], rows)


def table_of_bounds(likelihood):
    """The variational bound of the network and of a Gaussian, and what it consists of."""
    rows = []
    for name in ("network", "Gaussian"):
        bound = likelihood[name]
        total, steps, last = bound["total"], bound["sum of the steps 2..T"], bound["reconstruction"]["mean"]
        prior = bound["prior"]["mean"]
        sums = f"{total['mean']:.3f} ± {total['standard error']:.3f}"
        rows.append([name, sums, f"{prior:.3f}", f"{steps:.3f}", f"{last:.3f}"])
    head = [
        "",
        "bits per dimension",
        "of it: $x_T$ against N(0, I)",
        "all steps",
        "the last step, from $x_1$ to pixels",
    ]
    return table(head, rows)


def behind(likelihood):
    """The last times of the bound, and by how many percent the network's terms are larger there than the Gaussian's."""
    network, gaussian = (likelihood[name]["steps"] for name in ("network", "Gaussian"))
    ratio = network["mean of a term"][-1] / gaussian["mean of a term"][-1]
    return {"t": network["first t"][-1], "percent": f"{100 * (ratio - 1):.0f}"}


def table_of_copies(memorisation, quality):
    """Ratios of the distances to the nearest and the second nearest training image."""
    paper = next(r for r in quality["rows"] if (r["checkpoint"], r["method"], r["steps"]) == ("paper", "ancestral", 50))
    paper = {"images": paper["samples"], **paper["all numbers"]["memorisation"]}
    entries = {k: v for k, v in memorisation.items() if isinstance(v, dict) and "median ratio" in v}
    found = [(name, e["images"], e["median ratio"], e["share below 1/3"]) for name, e in entries.items()]
    found.insert(1, ("the paper's network", paper["images"], paper["median"], paper["copies"]))
    rows = [
        [
            name,
            images,
            f"{m['value']:.3g} [{m['low']:.3g}, {m['high']:.3g}]",
            f"{100 * s['value']:g} % [{100 * s['low']:.3g}, {100 * s['high']:.3g}]",
        ]
        for name, images, m, s in found
    ]
    return table(["", "images", "median ratio", "below 1/3"], rows)


def table_of_libraries(benchmark):
    """Rates of three libraries in two precisions."""
    rows = [
        [
            r["library"],
            r["precision"],
            f"{r['parameters']:,}",
            f"{r['GFLOP an evaluation']:.2f}",
            f"{r['training']['images/s']:.1f}",
            f"{r['sampling']['evaluations/s']:.1f}",
            f"{r['peak memory of training in float32, GiB']:.1f}",
        ]
        for r in benchmark["rates"]
    ]
    head = ["library", "precision", "parameters", "GFLOP", "training, images/s", "sampling, evaluations/s"]
    return table([*head, "memory, training in float32, GiB"], rows)


def table_of_ratios(benchmark):
    """Our rates over those of other libraries, with the goals."""
    goals = benchmark["goals"]

    def cells(what):
        for library, ratios in benchmark["ratios"].items():
            found = goals.get(f"{what}, an image, over {library}")
            goal = f" (goal {found['goal']:g}: {'reached' if found['reached'] else 'missed'})" if found else ""
            yield f"{ratios[what]['an image']:.2f}{goal}"
            yield f"{ratios[what]['a GFLOP']:.2f}"

    libraries = benchmark["ratios"]
    head = ["ours over theirs", *(f"{library}, {unit}" for library in libraries for unit in ("images", "GFLOP"))]
    return table(head, [[what, *cells(what)] for what in next(iter(libraries.values()))])


def table_of_limits(benchmark):
    """Which share of the rates of plain operations the networks reach."""
    limits = benchmark["limits, GFLOP/s"]
    rows = []
    for what, shares in benchmark["shares of the limits"].items():
        own = limits[what.split(", ")[1]]
        rows.append(
            [what, *(f"{shares[name]:.2f} of {own[name]:.0f} GFLOP/s" for name in ("convolution", "matrix product"))]
        )
    return table(["", "3 x 3 convolutions of its shapes", "matrix product"], rows)
