"""Results for people: tables for the terminal, figures, and a self-contained page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
