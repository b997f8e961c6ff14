"""What the pages say in numbers: lines of ``python -m diffmath verify`` and tables of `experiments/results`.

`substitutions` returns what ``{{ ... }}`` in a page can name: ``check["(16)"]`` is the line of a check, ``results``
holds the results files, and the rest are tables in Markdown.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

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
        "variances": table_of_variances(results["exact_denoisers"]["discretisation"]),
        "networks": table_of_networks(results["sample_statistics_500_steps"]),
        "quality": table_of_quality(results["quality_vs_steps"], few=True),
        "quality_in_full": table_of_quality(results["quality_vs_steps"]),
        "brightness": table_of_brightness(results["start_and_likelihood"]["network's samples"]),
        "digits": table_of_digits(results["start_and_likelihood"]["5,000 digits"]),
        "bounds": table_of_bounds(results["start_and_likelihood"]["likelihood"]),
        "copies": table_of_copies(results["memorisation"]),
        "libraries": table_of_libraries(results["ddpm_benchmark"]),
        "solvers": table_of_solvers(results["pde_benchmark"]["beside other solvers"]),
        "schemes": table_of_schemes(results["pde_convergence"]),
        "backwards": table_of_priors(results["backwards"]["digits"]),
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
    names = {"ancestral": "Algorithm 2"}
    numbers = ("frechet", "kernel", "sure", "coverage", "background", "energy")
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
            names.get(r["method"], r["method"]) + ", matched start" * r["matched start"],
            r["evaluations"],
            r["samples"],
            *cells(r),
        ]
        for r in quality["rows"]
        if wanted(r)
    ]
    real = quality["real training images"]
    head = ["network", "sampler", "evaluations", "samples", "Fréchet", "kernel", "confident", "coverage", "background"]
    return table([*head, "energy of pixels"], [*rows, ["", "real training images", "", real["images"], *cells(real)]])


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


def table_of_copies(memorisation):
    """Ratios of the distances to the nearest and the second nearest training image."""
    rows = []
    for name, entry in memorisation.items():
        if isinstance(entry, dict) and "median ratio" in entry:
            m = entry["median ratio"]
            share = f"{100 * entry['share below 1/3']['value']:g} %"
            rows.append([name, entry["images"], f"{m['value']:.3g} [{m['low']:.3g}, {m['high']:.3g}]", share])
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
        ]
        for r in benchmark["rates"]
    ]
    return table(["library", "precision", "parameters", "GFLOP", "training, images/s", "sampling, evaluations/s"], rows)


# The flow


def table_of_solvers(benchmark):
    """Times of the closed form of the flow and of solvers that step in time, on 512 cells, in units of the former."""
    rows = []
    for result in (r for r in benchmark["results"] if r["cells"] == 512):
        for s in result["solvers"]:
            if "stopped" in s:
                rows.append([result["start"], s["solver"], "", "", "", s["stopped"]])
                continue
            ratios = (f"{s[k]:,.0f}" if k in s else "" for k in ("reused over exact", "cold over exact"))
            error = f"{s['raw error, own']:.1e}"
            rows.append([result["start"], s["solver"], f"{1000 * s['reused, seconds']:.2g}", *ratios, error])
    return table(["start", "solver", "ms", "over the closed form", "with compilation", "relative error"], rows)


def table_of_schemes(convergence):
    """Observed orders of the time-stepping schemes."""
    rows = [[n, s["expected"], f"{s['order']:.3f}"] for n, s in convergence["order in dt"]["schemes"].items()]
    return table(["scheme", "order", "observed"], rows)


# The flow backwards


def table_of_priors(found):
    """A line for each prior: the median relative error and what 90 % bands cover, at each blur."""
    blurs = list(found)
    rows = [
        [name, *(cell for blur in blurs for cell in (f"{found[blur]['error'][name]:.3f}", cover(found[blur], name)))]
        for name in found[blurs[0]]["error"]
    ]
    return table(["prior", *(f"{what}, {blur}" for blur in blurs for what in ("error", "90 % bands cover"))], rows)


def cover(found, name):
    """What the bands of a prior cover; nothing for estimates without bands."""
    share = found["90 % bands cover"].get(name)
    return "" if share is None else f"{100 * share:.0f} %"
