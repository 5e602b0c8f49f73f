"""`noisescale status`: count runs by state."""

from __future__ import annotations

from noisescale.cli.arguments import AsJson, Folder
from noisescale.cli.json_output import print_json


def status_command(folder: Folder, as_json: AsJson = False) -> int:
    """Count runs by state, also while the sweep runs."""
    from noisescale.sweeps import status

    state = status(folder)
    if as_json:
        print_json(state.as_json())
    else:
        for line in state.lines():
            print(line)
    return 1 if state.failed else 0
