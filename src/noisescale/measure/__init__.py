"""Instruments on anyone's PyTorch model: gradient noise, curvature, effective rates, every number with its error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
