"""Mutation testing of the mathematics: every wrong coefficient, sign, index or exponent must fail a test.

    python -m tests.mutants [--module gaussian domains pde ...] [--sample 100] [--seed 0] [--jobs 2]

A mutant is a module with one thing changed: an operator, a number, a sign, a comparison, an index, a function, or the
order of two arguments. It is killed if a test of those that guard the module fails, or takes far too long. What raises
errors, or is text, is left alone. Mutants live in temporary copies of the repository, never in the working tree.

Each survivor is printed. Some change nothing that can be seen: `EQUIVALENT` says which, and why. The exit status is 1
if less than 95 % of the others are killed. A hundred mutants take some minutes on two cores.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import itertools
import multiprocessing
import os
import queue
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.95
MEMORY = 16 << 30  # bytes that a mutant may ask for
GUARDS = {  # those that are quick and see most come first
    "gaussian": ["tests/test_gaussian.py"],
    "schedule": ["tests/test_schedule.py"],
    "process": ["tests/test_process.py", "tests/test_schedule.py"],
    "ddpm/samplers": ["tests/ddpm/test_samplers.py", "tests/ddpm/test_sampling.py"],
    "ddpm/sampling": ["tests/ddpm/test_sampling.py", "tests/ddpm/test_samplers.py", "tests/ddpm/test_processes.py"],
    "ddpm/guidance": ["tests/ddpm/test_guidance.py"],
    "ddpm/denoisers": ["tests/ddpm/test_denoisers.py"],
    "domains/_axes": ["tests/domains/test_box.py"],
    "domains/boundaries": ["tests/domains/test_box.py"],
    "domains/box": ["tests/domains/test_box.py", "tests/pde/test_flow.py", "tests/pde/test_preserved.py"],
    "domains/eigenbasis": ["tests/domains/test_box.py", "tests/domains/test_eigenbasis.py"],
    "pde/stability": ["tests/pde/test_stability.py"],
    "pde/spectral": ["tests/pde/test_spectral.py", "tests/pde/test_evolve.py", "tests/pde/test_flow.py"],
    "pde/schemes": ["tests/pde/test_schemes.py"],
    "pde/stepping": ["tests/pde/test_runs.py", "tests/pde/test_stepping.py"],
    "pde/runs": ["tests/pde/test_runs.py", "tests/pde/test_stepping.py"],
    "pde/dataset": ["tests/pde/test_dataset.py", "tests/pde/test_flow.py", "tests/pde/test_plots.py"],
    "pde/norms": ["tests/pde/test_norms.py", "tests/pde/test_preserved.py"],
    "pde/priors": ["tests/pde/test_inverse.py"],
    "pde/inverse": ["tests/pde/test_inverse.py"],
    "pde/stochastic": ["tests/pde/test_stochastic.py"],
    "pde/invariant": ["tests/pde/test_stochastic.py"],
    "pde/reversal": ["tests/pde/test_reversal.py"],
    "pde/harmonics": ["tests/pde/test_reversal.py"],
    "pde/flow": ["tests/pde/test_flow.py", "tests/pde/test_evolve.py", "tests/pde/test_preserved.py"],
}
LONG = "not energy_is_kept"  # 100,000 steps: the shorter test of every functional sees the same
PRELOADED = ["torch", "xarray", "scipy.integrate", "scipy.stats", "matplotlib.pyplot", "hypothesis", "mpmath", "pytest"]

EITHER = "decides between two ways that are both exact"
EDGE = "equality, which rounding never meets"
EVEN = "an even function of it is all that counts"
ANY = "a length or a number that is as good if it is another"
# Module, a part of the line, what in it ("before" or "before -> after", with ... for any text; "" for all), reason.
EQUIVALENT: list[tuple[str, str, str, str]] = [
    ("gaussian", "standard_normal(shape)", "self.mean + ...", "the law of the noise is symmetric"),
    ("gaussian", "standard_normal(shape)", "np.sqrt(self.variance) * ... -> -...", "the law of the noise is symmetric"),
    ("schedule", "angle = np.pi / 2", "np.pi / 2 -> -np.pi / 2", "cos is even, and the sines are in pairs"),
    ("schedule", "angle = np.pi / 2", "np.pi / 2 * ... -> -...", "cos is even, and the sines are in pairs"),
    ("schedule", "lost = (np.abs(", "np.abs(log_high + log_low) < ...", EDGE),
    ("schedule", "lost = (np.abs(", "np.abs(log_high + log_low)", "negative: all are summed one by one, as exactly"),
    ("schedule", "lost = (np.abs(", "log_high + log_low", "as each term is rounded to at most twice itself: 1e-14 / 3"),
    ("schedule", "lost = (np.abs(", "1e-14", EITHER),
    ("schedule", "lost = (np.abs(", "high[s]", "which is more, so that more are summed one by one, as exactly"),
    ("schedule", "lost = (np.abs(", "t > s", "the sum of no terms is 0 too"),
    ("ddpm/sampling", "evaluations = ", "", "the progress bar"),
    ("ddpm/sampling", "generator.seed()", "", "any seed that no other call gets"),
    ("ddpm/samplers", "h = 0.5 * (", "0.5", "only the ratio of two h counts"),
    ("pde/spectral", "NEAR = ", "", EITHER),
    ("pde/spectral", "present = root", "", "left out are only modes that underflow"),
    (
        "pde/stepping",
        "n = math.ceil(remaining / dt * (1",
        "1e-9",
        "any number above rounding",
    ),
    ("pde/flow", "LARGE < largest", "", EITHER),
    (
        "pde/norms",
        "squares[..., null[null < n]]",
        "null < n -> null <= n",
        "the modes up to the n-th include all null ones",
    ),
    ("pde/norms", "squares[..., null[null < n]]", "0.0 -> 1.0", "any finite number is, as its weight is 0"),
    ("pde/invariant", "excess = -(z", "n / b -> n * b", "fewer proposals are accepted, by the same law"),
    ("pde/stability", "N_TIMES = 9", "", ANY),
    ("pde/stability", "h = 1e-30", "1e-30", ANY),
    ("pde/stability", "h = 1e-30", "1e-30 * ... -> -...", "a derivative from the other side"),
    ("pde/stability", "signs = np.sign", "np.abs(seen) < ...", EDGE),
    ("pde/stability", "agrees: Any", "np.abs(measured - expected) <= ...", EDGE),
    ("pde/stability", "if (column != column[0]).any()", "0 -> 1", "all are alike if they are like any one of them"),
    ("pde/stability", "if column[0] > 0", "0 -> 1", "by then all are alike"),
    ("pde/stability", "if column[0] == 0", "0 -> 1", "by then all are alike"),
    ("pde/stability", "sorted_as[k] = 2 * mu[k]", "2", "either way above all others"),
    ("pde/stability", "times = np.linspace", "1", ANY),
    ("pde/stability", "times = np.linspace", "10", ANY),
    ("pde/stability", "times = np.linspace", "mu[k] - mu[j]", ANY),
    ("pde/stability", "times = np.linspace", "1e-3", ANY),
    ("pde/stability", "times = np.linspace", "1e-3 * mu[k] -> 0.001 / mu[k]", ANY),
    ("pde/stability", "slope = np.poly", "np.abs(...)", "no amplitude changes its sign"),
    ("pde/stability", "slope = np.poly", "1", "a parabola through points of a line"),
]

OPERATORS = {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.LShift: ast.RShift, ast.Lt: ast.LtE, ast.Gt: ast.GtE}
OPERATORS |= {b: a for a, b in OPERATORS.items()} | {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.FloorDiv: ast.Mult}
FUNCTIONS = {"exp": "expm1", "log": "log1p", "sin": "cos", "min": "max", "minimum": "maximum", "argmin": "argmax"}
FUNCTIONS |= {b: a for a, b in FUNCTIONS.items()} | {"exp2": "exp", "ceil": "floor", "rint": "floor"}
DROPPED = {"sqrt", "abs", "exp", "log", "log1p", "expm1", "square"}
SYMMETRIC = {
    "min",
    "max",
    "minimum",
    "maximum",
    "hypot",
    "isclose",
    "array_equal",
    "promote_types",
    "broadcast_shapes",
    "result_type",
}
NOT_MATHEMATICS = {"isinstance", "getattr", "hasattr", "zip"}


class Mutant(NamedTuple):
    """A change of a module's source."""

    module: str
    line: int
    before: str
    after: str
    source: str

    @property
    def path(self) -> Path:
        return Path("diffmath", self.module + ".py")

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.text()}    {' '.join(self.before.split())}  ->  {self.after}"

    def text(self) -> str:
        """The line of the module."""
        return lines(self.path)[self.line - 1].strip()

    def reason(self) -> str:
        """Why it is equivalent, or nothing."""
        return next((reason for *entry, reason in EQUIVALENT if self.is_in(*entry)), "")

    def is_in(self, module: str, part: str, change: str) -> bool:
        """Whether this is what an entry of `EQUIVALENT` is about."""
        pattern = ".*".join(map(re.escape, change.split("...")))
        changes = ("", self.before, f"{self.before} -> {self.after}")
        same_place = module == self.module and part in self.text()
        return same_place and any(re.fullmatch(pattern, c, re.DOTALL) for c in changes)


@functools.cache
def lines(path: Path) -> list[str]:
    return (ROOT / path).read_text().splitlines()


# Making mutants


def mutants(module: str) -> list[Mutant]:
    """All of a module's."""
    source = (ROOT / "diffmath" / f"{module}.py").read_text().encode()  # ast counts columns in bytes
    starts = [0, 0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]  # of lines, from line 1
    found = {}
    for node in mathematics(ast.parse(source)):
        begin, end = starts[node.lineno] + node.col_offset, starts[node.end_lineno] + node.end_col_offset
        for new in changes(node):
            after = ast.unparse(new)
            text = after if isinstance(node, ast.stmt) else f"({after})"
            mutated = (source[:begin] + text.encode() + source[end:]).decode()
            with contextlib.suppress(SyntaxError):  # no parentheses may stand there
                ast.parse(mutated)
                found[begin, end, after] = Mutant(module, node.lineno, source[begin:end].decode(), after, mutated)
    return list(found.values())


def mathematics(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, except annotations, decorators, text, abstract methods, and what raises errors."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "decorator_list"):
                continue
            if isinstance(child, (ast.Raise, ast.JoinedStr)) or getattr(child, "name", "") == "__repr__":
                continue
            if any(getattr(d, "id", "") == "abstractmethod" for d in getattr(child, "decorator_list", ())):
                continue  # whose defaults nobody uses
            if isinstance(child, ast.If) and isinstance(child.body[-1], ast.Raise):
                continue
            if isinstance(node, ast.Module) and isinstance(getattr(child, "value", None), (ast.Subscript, ast.Name)):
                continue  # a type alias
            if isinstance(child, ast.UnaryOp) and getattr(getattr(node, "func", None), "attr", "") == "reshape":
                continue  # the -1, for which any negative number would do
            if hasattr(child, "lineno"):
                yield child
            yield from mathematics(child)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may be changed to."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(n)):
            yield ast.Constant(n + 1)
        case ast.Constant(value=float() | complex() as x):
            yield ast.Constant(2 * x if x else 1.0)
        case ast.UnaryOp(op=ast.USub()):
            yield node.operand
        case ast.BinOp(op=ast.Pow()) if not isinstance(node.right, ast.Constant):
            yield ast.BinOp(node.left, node.op, offset(node.right))
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS and not no_numbers(node):
            yield changed(node, op=OPERATORS[type(node.op)]())
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
                yield changed(node, left=ast.UnaryOp(ast.USub(), node.left))
        case ast.Compare() if not no_numbers(node):
            for i, op in enumerate(node.ops):
                if type(op) in OPERATORS:
                    yield changed(node, ops=[*node.ops[:i], OPERATORS[type(op)](), *node.ops[i + 1 :]])
        case ast.Subscript():
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            bounds = [b for p in parts for b in ((p.lower, p.upper) if isinstance(p, ast.Slice) else (p,))]
            for bound in bounds:
                if isinstance(bound, (ast.Name, ast.BinOp, ast.Attribute)):
                    yield replaced(node, bound, offset(bound))
        case ast.Call():
            yield from changed_calls(node)


def changed_calls(call: ast.Call) -> Iterator[ast.AST]:
    """Another function, none, or its two arguments in the other order."""
    function = call.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name in FUNCTIONS:
        yield changed(
            call, func=changed(function, **{"attr" if isinstance(function, ast.Attribute) else "id": FUNCTIONS[name]})
        )
    if name in DROPPED and (call.args or isinstance(function, ast.Attribute)):
        yield call.args[0] if call.args else function.value
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    same = len({ast.dump(argument) for argument in call.args}) == 1
    if len(call.args) == 2 and name not in SYMMETRIC | NOT_MATHEMATICS and not (same or starred or no_numbers(call)):
        yield changed(call, args=call.args[::-1])


def offset(node: ast.expr) -> ast.BinOp:
    return ast.BinOp(node, ast.Add(), ast.Constant(1))


def changed(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def replaced(node: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    """A copy of a tree with one of its nodes replaced."""
    return copy.deepcopy(node, {id(old): new})


def no_numbers(node: ast.AST) -> bool:
    """Whether a text, a list or a tuple is one of its operands."""
    children = list(ast.iter_child_nodes(node))
    lists = any(isinstance(child, (ast.JoinedStr, ast.List, ast.Tuple)) for child in children)
    return lists or any(isinstance(getattr(child, "value", None), str) for child in children)


# Killing them


def run_tests(directory: str, tests: list[str]) -> None:
    """Run pytest in a copy of the repository, in a process of its own, which exits with pytest's status."""
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    os.chdir(directory)
    sys.path[:] = [directory, *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "diffmath", "paper_figures")]:
        del sys.modules[name]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    # One failure is enough: no time goes into finding a simpler one.
    phases, checks = [Phase.explicit, Phase.generate], list(HealthCheck)
    options = {"deadline": None, "derandomize": True, "database": None}
    settings.register_profile("mutants", max_examples=30, phases=phases, suppress_health_check=checks, **options)
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "-n0", "-k", LONG, *tests]))


class Runner:
    """Processes that run tests, each in its own copy of the repository."""

    def __init__(self, scratch: str, jobs: int) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)  # a process starts with these imported
        self.free: queue.Queue[Path] = queue.Queue()
        for i in range(jobs):
            directory = Path(scratch, str(i))
            shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(".*", "__pycache__", "output"))
            self.free.put(directory)

    def passes(self, module: str, source: str, timeout: float | None = None) -> bool:
        """Whether the module's tests pass, in time, with this source in its place."""
        directory = self.free.get()
        file = directory / "diffmath" / f"{module}.py"
        original = file.read_text()
        file.write_text(source)
        process = self.context.Process(target=run_tests, args=(str(directory), GUARDS[module]))
        process.start()
        process.join(timeout)
        process.kill()
        process.join()
        file.write_text(original)
        self.free.put(directory)
        return process.exitcode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", nargs="*", default=list(GUARDS), help="modules or folders of diffmath, as listed")
    parser.add_argument("--sample", type=int, help="a random sample of so many of all mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    modules = [m for m in GUARDS if any(m == part or m.startswith(f"{part}/") for part in arguments.module)]
    if unknown := [p for p in arguments.module if not any(m == p or m.startswith(f"{p}/") for m in GUARDS)]:
        parser.error(f"no module or folder is called {', '.join(unknown)}; known are {', '.join(GUARDS)}")
    every = {module: mutants(module) for module in modules}
    for *entry, reason in EQUIVALENT:
        if entry[0] in every and not any(mutant.is_in(*entry) for mutant in every[entry[0]]):
            print(f"EQUIVALENT has an entry that fits no mutant: {entry}, {reason}")
            return 1
    chosen = list(itertools.chain.from_iterable(every.values()))
    if arguments.sample is not None and arguments.sample < len(chosen):
        chosen = random.Random(arguments.seed).sample(chosen, arguments.sample)
    of = {module: [m for m in chosen if m.module == module] for module in modules}
    n_killed = n_survived = n_equivalent = 0
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(arguments.jobs) as pool:
        runner = Runner(scratch, arguments.jobs)
        for module in filter(of.get, modules):
            started = time.monotonic()
            if not runner.passes(module, (ROOT / "diffmath" / f"{module}.py").read_text()):
                print(f"{module}: the tests fail without any change")
                return 1
            seconds = time.monotonic() - started
            alive = pool.map(lambda m, s=seconds: runner.passes(m.module, m.source, 10 + 4 * s), of[module])
            survivors = []
            for mutant in itertools.compress(of[module], alive):
                survivors.append(mutant)
                print(f"    {mutant}" + f"    [{mutant.reason()}]" * bool(mutant.reason()), flush=True)
            real = sum(not mutant.reason() for mutant in survivors)
            print(
                f"{module}: {len(of[module]) - len(survivors)} killed, {real} survived, "
                f"{len(survivors) - real} equivalent; of {len(every[module])}, in {time.monotonic() - started:.0f} s",
                flush=True,
            )
            n_killed, n_survived = n_killed + len(of[module]) - len(survivors), n_survived + real
            n_equivalent += len(survivors) - real
    rate, of_all = (n_killed / max(1, n_killed + n) for n in (n_survived, n_survived + n_equivalent))
    print(f"{n_killed} killed, {n_survived} survived: {rate:.1%}; with {n_equivalent} equivalent ones {of_all:.1%}")
    return int(rate < GOAL)


if __name__ == "__main__":
    sys.exit(main())
