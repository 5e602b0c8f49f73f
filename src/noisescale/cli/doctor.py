"""`noisescale doctor`: what this machine has."""

from __future__ import annotations

from noisescale.cli.arguments import AsJson
from noisescale.cli.json_output import print_json


def doctor_command(as_json: AsJson = False) -> int:
    """Print versions, devices, threads, precision and the location of each data set."""
    from noisescale.sweeps import examine

    machine = examine()
    if as_json:
        print_json(machine)
    else:
        for name, value in machine.items():
            print(f"{name:18} {value if not isinstance(value, dict) else ''}".rstrip())
            for key, entry in value.items() if isinstance(value, dict) else ():
                print(f"  {key:16} {entry}")
    return 0
