"""The results of a sweep: shards (immutable files, one for each set of runs that train together), and their tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
