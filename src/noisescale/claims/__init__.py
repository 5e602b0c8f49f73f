"""The papers' claims as commands: each runs its experiment and returns a verdict.

A new claim is one module with an experiment, a function from a `Request` to its `Evidence`, and one row in `CLAIMS`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
