"""Optimizers, one file each behind one protocol; a new optimizer is one file and one row of `OPTIMIZERS`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
