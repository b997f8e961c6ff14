"""What is imported when, which way imports point, and that half-written files never replace whole ones."""

import subprocess
import sys

import pytest

import diffmath
from diffmath._files import replacing


def loaded_by(statement):
    """The top-level modules that a statement loads in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import diffmath", {"torch", "matplotlib", "numpy", "scipy"}),
        ("import diffmath; diffmath.pde", {"torch", "matplotlib"}),
        ("import diffmath.pde", {"torch", "matplotlib"}),
        ("import diffmath.schedule", {"torch", "matplotlib", "scipy"}),
        ("import diffmath.data", {"torch", "matplotlib", "mlxtend"}),
        ("import diffmath.ddpm", {"matplotlib"}),
        ("import diffmath.__main__", {"torch", "matplotlib"}),
    ],
)
def test_imports_are_light(statement, absent):
    assert loaded_by(statement).isdisjoint(absent)


def test_doors():
    assert diffmath.schedule.VarianceSchedule.linear().n_steps == 500
    assert {"ddpm", "pde", "schedule", "data", "__version__"} <= set(dir(diffmath))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = diffmath.nothing


def test_replacing(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
