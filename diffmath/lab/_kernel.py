"""Compiling the lab's network: ``python -m diffmath.lab._kernel`` makes ``unet.wasm`` anew from ``unet.c``.

The compiled file is part of the package, so that nobody needs a compiler to open the lab. It names the version of clang
that made it. The tests compile it again, and compare bytes where that version is installed, numbers where another is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from diffmath._files import replacing

__all__ = ["SHIPPED", "compile_kernel", "compiler_of", "installed_compiler"]

SHIPPED = Path(__file__).parent / "unet.wasm"
FLAGS = "--target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -fno-math-errno -Wall -Wextra -Werror"


def installed_compiler() -> str | None:
    """The version of the clang here that can make WebAssembly, or None without one."""
    if shutil.which("clang") is None or shutil.which("wasm-ld") is None:
        return None
    words = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    return _version(words)


def compiler_of(wasm: bytes) -> str | None:
    """The version of clang that a WebAssembly module says it was made by."""
    _, found, after = wasm.partition(b"processed-by")
    return _version("version " + after[:60].decode("latin-1")) if found else None


def compile_kernel(out: Path = SHIPPED) -> None:
    """Compile ``unet.c``, by Debian's clang and lld."""
    source = Path(__file__).parent / "unet.c"
    with replacing(out) as temporary:
        command = ["clang", *FLAGS.split(), "-Wl,--no-entry", "-o", str(temporary.resolve()), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"clang could not compile {source}: {done.stderr.strip()}")


def _version(words: str) -> str | None:
    found = re.search(r"(\d+\.\d+\.\d+)", words)
    return found[1] if found else None


if __name__ == "__main__":
    compile_kernel()
