"""The command line.

A new command is a function in a file here, and one row of `COMMANDS`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
