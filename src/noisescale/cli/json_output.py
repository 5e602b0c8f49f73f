"""The output of `--json`."""

import json
from typing import Any


def print_json(value: Any) -> None:
    """Print a value as JSON, which knows neither infinity nor NaN."""
    print(json.dumps(value, indent=1, allow_nan=False))
