"""What the pages say in numbers: lines of ``python -m diffmath verify`` and tables of `experiments/results`.

`substitutions` returns what ``{{ ... }}`` in a page can name: ``check["(16)"]`` is the line of a check, ``results``
holds the results files, and the rest are tables in Markdown, by `tables_of_networks` and `tables_of_flow`.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import tables_of_flow as of_flow
import tables_of_networks as of_networks
from markdown_tables import table

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
        "trained": {name: of_networks.training_of(name) for name in ("compact", "paper")},
        "variances": of_networks.table_of_variances(results["exact_denoisers"]["discretisation"]),
        "networks": of_networks.table_of_networks(results["sample_statistics_500_steps"]),
        "ways": of_networks.table_of_ways(results["sample_statistics"]),
        "quality": of_networks.table_of_quality(results["quality_vs_steps"], few=True),
        "quality_in_full": of_networks.table_of_quality(results["quality_vs_steps"]),
        "quick": of_networks.table_of_quick_samplers(results["quality_vs_steps"], "Algorithm 2 with 500"),
        "quick_pooled": of_networks.table_of_quick_samplers(
            results["quality_vs_steps"], "Algorithm 2 with 100 or more"
        ),
        "exceptions": of_networks.table_of_exceptions(results["quality_vs_steps"]),
        "moved": of_networks.table_of_movements(results["quality_vs_steps"]),
        "brightness": of_networks.table_of_brightness(results["start_and_likelihood"]["network's samples"]),
        "starts": of_networks.table_of_starts(
            results["start_and_likelihood"]["Gaussian with MNIST's mean and covariance"]
        ),
        "digits": of_networks.table_of_digits(results["start_and_likelihood"]["5,000 digits"]),
        "bounds": of_networks.table_of_bounds(results["start_and_likelihood"]["likelihood"]),
        "behind": of_networks.behind(results["start_and_likelihood"]["likelihood"]),
        "copies": of_networks.table_of_copies(results["memorisation"], results["quality_vs_steps"]),
        "libraries": of_networks.table_of_libraries(results["ddpm_benchmark"]),
        "ratios": of_networks.table_of_ratios(results["ddpm_benchmark"]),
        "limits": of_networks.table_of_limits(results["ddpm_benchmark"]),
        "solvers": of_flow.table_of_solvers(results["pde_benchmark"]["beside other solvers"]),
        "solvers_by_size": of_flow.table_of_goals(results["pde_benchmark"]["beside other solvers"]),
        "schemes": of_flow.table_of_schemes(results["pde_convergence"]),
        "weak_errors": of_flow.table_of_weak_errors(results["forced"]["weak errors"]),
        "stiff_modes": of_flow.table_of_stiff_modes(results["forced"]["stiff modes"]),
        "shares": of_flow.table_of_shares(results["forced"]["share of mode 1"]),
        "ways_back": of_flow.table_of_ways_back(results["forced"]),
        "functions": of_flow.table_of_functions(results["backwards"]["functions"]),
        "scales": of_flow.table_of_scales(results["backwards"]["scale"]),
        "backwards": of_flow.tables_of_priors(results["backwards"]),
    }


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
