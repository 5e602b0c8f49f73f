"""From runs to laws: optima, power laws over width, stability edges, recommendations, with intervals that cover."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
