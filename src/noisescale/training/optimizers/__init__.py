"""Optimizers. Each is a subclass of `Optimizer`. A new optimizer is one more file and one more row of `OPTIMIZERS`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
