"""``python -m diffmath``."""

from diffmath.cli import app, main

__all__ = ["app"]

if __name__ == "__main__":
    main()
