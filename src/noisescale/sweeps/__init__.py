"""What to run: the spec, its grid, the plan into packs, and the driver."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
