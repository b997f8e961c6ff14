"""The network in C against the one in torch, and that the shipped WebAssembly is what its source compiles to."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from diffmath import load_checkpoint
from diffmath.lab import _kernel as kernel
from diffmath.lab.page import bundle

TIMES = (1, 137, 500)
# float32 sums of up to 2,304 products in another order; the noise is about 3 at most. Two in torch differ by 4e-6.
CLOSE = 2e-5
SCRIPT = """
import fs from "node:fs";
import { Network, readCheckpoint } from MODULE;
const read = (path) => new Uint8Array(fs.readFileSync(path)).buffer;
const network = new Network(new WebAssembly.Module(read(KERNEL)), readCheckpoint(read(WEIGHTS)).tensors);
const x = new Float32Array(read(INPUT));
const out = new Float32Array(x.length);
const part = (array, i) => array.subarray(1024 * i, 1024 * (i + 1));
TIMES.forEach((t, i) => network.predict(part(x, i), t, part(out, i)));
fs.writeFileSync(OUTPUT, out);
"""


def noise_by_node(wasm, x, folder):
    """What the network of a compiled kernel predicts, computed by node."""
    here = kernel.SHIPPED.parent
    x.astype(np.float32).tofile(folder / "x")
    names = {
        "MODULE": (here / "network.mjs").as_uri(),
        "KERNEL": wasm,
        "WEIGHTS": here.parent / "ddpm" / "weights" / "compact.safetensors",
        "INPUT": folder / "x",
        "OUTPUT": folder / "y",
    }
    script = SCRIPT.replace("MODULE", json.dumps(str(names.pop("MODULE"))))
    constants = "".join(f"const {name} = {json.dumps(str(path))};\n" for name, path in names.items())
    (folder / "run.mjs").write_text(f"{constants}const TIMES = {list(TIMES)};\n{script}")
    subprocess.run(["node", folder / "run.mjs"], check=True)
    return np.fromfile(folder / "y", dtype=np.float32)


@pytest.fixture(scope="module")
def cases():
    x = torch.randn(len(TIMES), 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        eps = load_checkpoint("compact").model(x, torch.tensor(TIMES))
    return x.numpy(), eps.numpy().ravel()


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_clang = pytest.mark.skipif(kernel.installed_compiler() is None, reason="clang and lld are not installed")


@needs_node
def test_the_shipped_kernel_is_the_network(cases, tmp_path):
    x, eps = cases
    np.testing.assert_allclose(noise_by_node(kernel.SHIPPED, x, tmp_path), eps, rtol=0, atol=CLOSE)


@needs_clang
def test_the_source_compiles_to_the_shipped_kernel(cases, tmp_path):
    """To the same bytes by the same compiler; by another one, to a network with the same numbers."""
    again = tmp_path / "unet.wasm"
    kernel.compile_kernel(again)
    if kernel.installed_compiler() == kernel.compiler_of(kernel.SHIPPED.read_bytes()):
        assert again.read_bytes() == kernel.SHIPPED.read_bytes(), "run python -m diffmath.lab._kernel"
    elif shutil.which("node"):
        np.testing.assert_allclose(noise_by_node(again, cases[0], tmp_path), cases[1], rtol=0, atol=CLOSE)
    else:
        pytest.skip("another clang than the one that made the kernel, and no node to run what it made")


def test_modules_are_put_after_those_they_import(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.mjs").write_text('import { two } from "./deep/b.mjs";\nexport const four = two + two;\n')
    (tmp_path / "deep" / "b.mjs").write_text("const one = 1;\nexport const two = one + one;\n")
    script = bundle(tmp_path / "a.mjs")
    assert script.index('modules["deep/b.mjs"] =') < script.index('modules["a.mjs"] =')
    assert 'const { two } = modules["deep/b.mjs"];' in script
    assert "return { four };" in script
    assert "import " not in script
