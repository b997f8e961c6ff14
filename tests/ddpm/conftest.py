"""Images that the tests of training share."""

import pytest

from diffmath.data import load_mnist, to_tensor


@pytest.fixture(scope="module")
def images():
    """Fifteen real digits at 8 x 8: not a multiple of the batch size."""
    return to_tensor(load_mnist("sample").images[::340], size=8)
