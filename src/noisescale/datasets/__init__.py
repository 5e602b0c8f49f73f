"""On what is trained: published data sets and a user's own arrays, split, noised and standardized by one seed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
