"""Ten of MNIST's images with their labels, and the format of its files."""

import numpy as np

from diffmath.data import load_mnist

IMAGES, LABELS = (load_mnist("sample")[i][::500] for i in (0, 1))


def idx(array):
    """The bytes of an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
