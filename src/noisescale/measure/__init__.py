"""Instruments for any PyTorch model: gradient noise, curvature and effective rates. Every number has an error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
