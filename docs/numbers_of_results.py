"""What the pages say in numbers: lines of ``python -m diffmath verify`` and tables of `experiments/results`.

`substitutions` returns what ``{{ ... }}`` in a page can name: ``check["(16)"]`` is the line of a check, ``results``
holds the results files, and the rest are tables in Markdown.
"""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

from diffmath.ddpm.checkpoints import SHIPPED, load_checkpoint

ROOT = Path(__file__).parent.parent
VERIFY = ROOT / "docs" / "_build" / "verify.json"
EXAMPLES = 25  # of each check while building the site


def substitutions():
    """The names that pages use."""
    results = {p.stem: json.loads(p.read_text()) for p in sorted((ROOT / "experiments" / "results").glob("*.json"))}
    checks = verified()
    return {
        "results": results,
        "check": {c["label"]: line_of(c) for c in checks},
        "checks": table_of_checks(checks),
        "n_checks": len(checks),
        "n_examples": max(c["examples"] for c in checks),
        "trained": {name: training_of(name) for name in SHIPPED},
        "variances": table_of_variances(results["exact_denoisers"]["discretisation"]),
        "networks": table_of_networks(results["sample_statistics_500_steps"]),
        "quality": table_of_quality(results["quality_vs_steps"], few=True),
        "quality_in_full": table_of_quality(results["quality_vs_steps"]),
        "quick": table_of_quick_samplers(results["quality_vs_steps"], "Algorithm 2 with 500"),
        "quick_pooled": table_of_quick_samplers(results["quality_vs_steps"], "Algorithm 2 with 100 or more"),
        "exceptions": table_of_exceptions(results["quality_vs_steps"]),
        "moved": table_of_movements(results["quality_vs_steps"]),
        "brightness": table_of_brightness(results["start_and_likelihood"]["network's samples"]),
        "starts": table_of_starts(results["start_and_likelihood"]["Gaussian with MNIST's mean and covariance"]),
        "digits": table_of_digits(results["start_and_likelihood"]["5,000 digits"]),
        "bounds": table_of_bounds(results["start_and_likelihood"]["likelihood"]),
        "behind": behind(results["start_and_likelihood"]["likelihood"]),
        "copies": table_of_copies(results["memorisation"], results["quality_vs_steps"]),
        "libraries": table_of_libraries(results["ddpm_benchmark"]),
        "ratios": table_of_ratios(results["ddpm_benchmark"]),
        "limits": table_of_limits(results["ddpm_benchmark"]),
        "solvers": table_of_solvers(results["pde_benchmark"]["beside other solvers"]),
        "solvers_by_size": table_of_goals(results["pde_benchmark"]["beside other solvers"]),
        "schemes": table_of_schemes(results["pde_convergence"]),
        "weak_errors": table_of_weak_errors(results["forced"]["weak errors"]),
        "stiff_modes": table_of_stiff_modes(results["forced"]["stiff modes"]),
        "shares": table_of_shares(results["forced"]["share of mode 1"]),
        "ways_back": table_of_ways_back(results["forced"]),
        "backwards": tables_of_priors(results["backwards"]),
    }


def table(head, rows):
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


# Verification


def verified():
    """The results of ``diffmath verify``, run again if a module of the package is newer than they are."""
    newest = max(p.stat().st_mtime for p in (ROOT / "diffmath").rglob("*.py"))
    if not VERIFY.exists() or VERIFY.stat().st_mtime < newest:
        command = [sys.executable, "-m", "diffmath", "verify", "--examples", str(EXAMPLES), "--json", str(VERIFY)]
        VERIFY.parent.mkdir(exist_ok=True)
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return json.loads(VERIFY.read_text())


def link(name):
    """A link to an object of the package, under the name by which the API pages know it, shown without its module."""
    for home in ("diffmath.pde", "diffmath.ddpm", "diffmath.domains"):
        inside = name.removeprefix(home + ".").split(".")
        found = [i for i, part in enumerate(inside) if part in importlib.import_module(home).__all__]
        if name.startswith(home + ".") and found:
            name = ".".join([home, *inside[found[0] :]])
    parts = name.split(".")
    short = ".".join(parts[-2:]) if parts[-2][0].isupper() else parts[-1]
    return f"{{py:obj}}`{short} <{name}>`"


def line_of(check):
    """One check in a sentence, with its links, for the page that derives the equation."""
    holds = "holds" if check["passed"] else "FAILS"
    plural = "example" if check["examples"] == 1 else "examples"
    return (
        f"**Code:** {', '.join(map(link, check['code']))}. **Verified:** {check['claim']}; {check['method']}, "
        f"{check['examples']} {plural}, worst error {check['worst']:.1e}, tolerance {check['tolerance']:.0e}: {holds}."
    )


def table_of_checks(checks):
    """All checks."""
    rows = [
        [
            c["label"],
            c["claim"],
            ", ".join(map(link, c["code"])),
            c["method"],
            c["examples"],
            f"{c['worst']:.1e}",
            f"{c['tolerance']:.0e}",
            "holds" if c["passed"] else "FAILS",
        ]
        for c in checks
    ]
    return table(["", "what is checked", "code", "how", "examples", "worst error", "tolerance", ""], rows)


# The diffusion model

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


# The flow

RATIOS = ("reused over exact", "cold over exact")


def table_of_solvers(benchmark):
    """Times of the closed form of the flow and of solvers that step in time, on 512 cells, in units of the former."""
    rows = []
    for result in (r for r in benchmark["results"] if r["cells"] == 512):
        for s in result["solvers"]:
            if "stopped" in s:
                rows.append([result["start"], s["solver"], "", "", "", s["stopped"], ""])
                continue
            ratios = (f"{s[k]:,.0f}" if k in s else "" for k in RATIOS)
            errors = f"{s['raw error, own']:.1e}", f"{s['energy drift']:.1e}"
            rows.append([result["start"], s["solver"], f"{1000 * s['reused, seconds']:.2g}", *ratios, *errors])
    head = ["start", "solver", "ms", "over the closed form", "with compilation", "relative error", "energy gained"]
    return table(head, rows)


def table_of_goals(benchmark):
    """From how many to how many times as long as the closed form py-pde takes, over the starts."""
    groups = {}
    for result in benchmark["results"]:
        for setting, found in result["goals"].items():
            groups.setdefault((setting, result["cells"]), []).append(found)
    rows = [
        [
            setting,
            f"{cells:,}",
            *(f"{min(f[k] for f in found):,} to {max(f[k] for f in found):,}" for k in RATIOS),
            f"from {sum(f['goal reached, reused'] for f in found)} of {len(found)} starts",
        ]
        for (setting, cells), found in sorted(groups.items())
    ]
    return table(["setting of py-pde", "cells", "over the closed form", "with compilation", "goal reached"], rows)


def table_of_schemes(convergence):
    """Observed orders of the time-stepping schemes."""
    rows = [[n, s["expected"], f"{s['order']:.3f}"] for n, s in convergence["order in dt"]["schemes"].items()]
    return table(["scheme", "order", "observed"], rows)


# The flow under noise


def table_of_weak_errors(found):
    """Errors of E y_2^2 under the invariant law of the steps, with the observed order."""
    times = next(iter(found.values()))["dt"]
    rows = []
    for name, row in found.items():
        errors = row["errors of E y_2^2"]
        order = math.log2(errors[-2] / errors[-1])
        rows.append([name, *(f"{e:.1e}" for e in errors), f"{order:.2f}", f"{row['total variation']:.1e}"])
    last = f"total variation at {times[-1]:g}"
    return table(["", *(f"error at dt = {dt:g}" for dt in times), "order", last], rows)


def table_of_stiff_modes(found):
    """The variance of a stiff mode over the theory's."""
    rows = [[name, f"{row['ratio']:.3f}", f"{row['plain splitting']:.1e}"] for name, row in found.items()]
    return table(["variance over theory", "with asinh", "plain splitting"], rows)


def table_of_shares(found):
    """The mean share of mode 1 by the number of modes."""
    counts = [n for n in found if n.isdigit()]
    rows = [[dimensions, *(f"{found[n][dimensions]:.3f}" for n in counts)] for dimensions in ("1-D", "2-D")]
    return table(["modes", *(f"{int(n):,}" for n in counts)], rows)


def table_of_ways_back(found):
    """Total variations between the initial law and what comes back from the invariant law."""
    two, three = (
        {way: v["value"] if isinstance(v, dict) else v for way, v in found[modes].items()}
        for modes in ("two modes", "three modes")
    )
    return table(
        ["total variation", "two modes", "three modes"], [[w, f"{two[w]:.4f}", f"{three[w]:.4f}"] for w in two]
    )


# The flow backwards


def tables_of_priors(backwards):
    """A table for the digits that priors alone recover, and one for those that the network recovers too."""
    return "\n\n".join(table_of_priors(backwards[part]) for part in ("digits", "network") if part in backwards)


def table_of_priors(found):
    """A line for each prior: the median relative error and what 90 % bands cover, at each blur."""
    blurs = [name for name in found if name.startswith("blurred")]
    names = dict.fromkeys(name for key in ("error", "90 % bands cover") for name in found[blurs[0]][key])
    rows = [
        [name, *(cell for blur in blurs for cell in (error(found[blur], name), cover(found[blur], name)))]
        for name in names
    ]
    n = f", {found[blurs[0]]['digits']} digits" if "digits" in found[blurs[0]] else ""
    return table(["prior" + n, *(f"{what}, {blur}" for blur in blurs for what in ("error", "90 % bands cover"))], rows)


def error(found, name):
    """The error of an estimate; nothing for bands without an estimate of their own."""
    return f"{found['error'][name]:.3f}" if name in found["error"] else ""


def cover(found, name):
    """What the bands of a prior cover, and what of the strokes if these are told apart; nothing without bands."""
    share = found["90 % bands cover"].get(name)
    if isinstance(share, dict):
        return f"{100 * share['all']:.0f} %, of the strokes {100 * share['digit']:.0f} %"
    return "" if share is None else f"{100 * share:.0f} %"
