"""The lab: one HTML page that runs the trained network and the exact flow in a browser, with no server and no request.

Its sources are the modules beside this file: ``unet.c``, compiled to ``unet.wasm``, and JavaScript. `page` puts them
together with the shipped weights.
"""

from diffmath.lab.page import page, write_page

__all__ = ["page", "write_page"]
