"""The papers' claims as data, with experiments that test them and return verdicts.

A new claim needs an experiment, which is a function from a `Request` to its `Evidence`, and one row in `CLAIMS`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
