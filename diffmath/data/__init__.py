"""Images: MNIST, files of one's own, and tensors and pictures of them."""

from diffmath.data.idx import DataError, read_idx
from diffmath.data.images import Images, load_images
from diffmath.data.mnist import Mnist, load_mnist
from diffmath.data.pixels import save_sheet, tile, to_tensor
from diffmath.data.training import crop, held_out_images, training_images

__all__ = [
    "DataError",
    "Images",
    "Mnist",
    "crop",
    "held_out_images",
    "load_images",
    "load_mnist",
    "read_idx",
    "save_sheet",
    "tile",
    "to_tensor",
    "training_images",
]
