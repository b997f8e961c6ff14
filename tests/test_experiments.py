"""Every experiment runs in its small form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_smoke(script, tmp_path):
    arguments = ["--smoke", "--results", tmp_path / "results.json"]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())


def test_scripts_say_what_they_do():
    """Question, command, minutes, result."""
    assert SCRIPTS
    for script in SCRIPTS:
        text = script.read_text()
        assert all(word in text for word in ("Question  ", "Command  ", "Minutes  ", "Result  ", "--smoke")), script
