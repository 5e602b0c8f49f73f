"""`python -m noisescale`: the command line."""

import sys

from noisescale.cli import main

if __name__ == "__main__":
    sys.exit(main())
