"""What results files say of the flow, forwards, under noise and backwards, as tables in Markdown."""

import math

from markdown_tables import table

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


def table_of_functions(found):
    """Median relative errors of classical estimates and of empirical Bayes, for functions."""
    others = ("90 % bands cover", "empirical Bayes over the best", "holds")
    estimates = [name for name in next(iter(found.values())) if name not in others]
    rows = [
        [
            name,
            *(f"{row[estimate]:.3f}" for estimate in estimates),
            f"{row['empirical Bayes over the best']:.2f}",
            f"{100 * row['90 % bands cover']:.0f} %",
        ]
        for name, row in found.items()
    ]
    return table(["median error", *estimates, "over the best", "90 % bands cover"], rows)


def table_of_scales(found):
    """Median relative errors of a step by the way in which its scale is found."""
    ways = list(next(iter(found.values())))
    rows = [[name, *(f"{row[way]:.3f}" for way in ways)] for name, row in found.items()]
    return table(["step", *ways], rows)


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
