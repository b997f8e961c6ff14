"""The tests. They load diffmath before torch, so that its threads sleep while they wait."""

import diffmath  # noqa: F401
