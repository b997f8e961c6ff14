"""The documentation site: ``python -m sphinx -W -n -j 2 -b html docs docs/_build/html``."""

import atexit
import os
import socket
import sys
import time
from multiprocessing.util import Finalize
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numbers_of_results  # noqa: E402
from sphinxcontrib import katex  # noqa: E402

import diffmath  # noqa: E402
from diffmath.lab import write_page  # noqa: E402

project = "diffmath"
author = "The diffmath developers"
copyright = "2025, the diffmath developers. MIT licence"
release = version = diffmath.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # only for its role "autolink"
    "sphinx.ext.viewcode",
    "sphinxcontrib.katex",
]
exclude_patterns = ["_build", "_static"]

html_theme = "furo"
html_title = "diffmath"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"source_repository": "", "navigation_with_keys": True}
html_copy_source = True

# Formulas are rendered while building, so that a page needs no script and asks nobody for anything.
katex_prerender = True
katex_css_path = "katex/katex.min.css"


def at_exit(function, *arguments):
    """Have a function called when the process ends, also if it is one of those that ``sphinx -j 2`` starts."""
    atexit.register(function, *arguments)
    Finalize(None, function, arguments, exitpriority=0)


class PatientSocket(socket.socket):
    """A socket that tries again where nobody listens yet: on a busy machine node takes its time."""

    def connect(self, address):
        """Connect within a minute."""
        for _ in range(600):
            try:
                return super().connect(address)
            except ConnectionRefusedError:
                time.sleep(0.1)
        return super().connect(address)


katex.atexit = SimpleNamespace(register=at_exit)  # else the extension leaves its node running in such a process
katex.socket = SimpleNamespace(**{**vars(socket), "socket": PatientSocket})
katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # seconds

# Docstrings
default_role = "autolink"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections have the types, in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
nitpick_ignore_regex = [("py:.*", r"(collections\.abc|numpy|np|npt|scipy|torch|xarray|xr|matplotlib|typer)\..*")]

# Pages
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
myst_substitutions = numbers_of_results.substitutions()

# Notebooks are executed, on one thread as everything else here, and an error in one is an error of the build.
os.environ.setdefault("OMP_NUM_THREADS", "1")
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True  # a guide may write files
nb_merge_streams = True


def write_lab(app, error):
    """Build the lab beside the pages that link to it."""
    if error is None and app.builder.format == "html":
        write_page(Path(app.outdir) / "_static" / "lab.html")


def setup(app):
    """Build the lab when the pages are built."""
    app.connect("build-finished", write_lab)
