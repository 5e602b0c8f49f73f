"""Imports follow the pipeline: every module of the package imports only from the layers below its own."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "noisescale"

# layer -> the layers it may import. A layer may always import itself. A new package is a new row, above what it imports
# and below what imports it; `cli`, `__main__` and the package's `__init__` may import everything.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "runs": {"errors"},
    "noise_scale": set(),
    "families": {"errors", "runs"},
    "parameterizations": {"errors", "runs"},
    "datasets": {"errors"},
    "theory": {"errors", "runs"},
    "measure": {"errors", "runs", "families", "datasets"},
    "training": {"errors", "runs", "noise_scale", "families", "parameterizations", "datasets", "theory", "measure"},
    "store": {"errors", "runs", "noise_scale"},
    "sweeps": {
        "errors",
        "runs",
        "noise_scale",
        "families",
        "parameterizations",
        "datasets",
        "measure",
        "training",
        "store",
    },
    # A recommendation hands its model over, hence families and parameterizations.
    "laws": {"errors", "runs", "noise_scale", "families", "parameterizations", "store"},
    "claims": {
        "errors",
        "runs",
        "noise_scale",
        "families",
        "datasets",
        "training",
        "theory",
        "measure",
        "sweeps",
        "store",
        "laws",
    },
    "exports": {"errors", "store"},
    "report": {"errors", "runs", "store", "measure", "laws", "claims"},
}
UNBOUND = {"cli", "__main__", "__init__"}


def imported_layers(tree: ast.AST, module: tuple[str, ...], is_package: bool) -> list[tuple[int, str]]:
    """(line, layer) of every import from inside the package, wherever it stands: top, function or type-checking block.

    `from noisescale import name` counts as the layer `name`; a name that is no layer is the public surface, `__init__`.
    """
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One dot is the module's own package: for a module its parent, for an __init__ itself.
            anchor = module[: len(module) - node.level + is_package] if node.level else ()
            base = anchor + tuple(node.module.split(".") if node.module else ())
            paths = [base + (alias.name,) for alias in node.names] if base == ("noisescale",) else [base]
        else:
            continue
        for path in paths:
            if path[0] == "noisescale":
                layer = path[1] if len(path) > 1 and path[1] in ALLOWED.keys() | UNBOUND else "__init__"
                found.append((node.lineno, layer))
    return found


def violations(source: str, file: Path) -> list[str]:
    """What `file` (relative to the package's folder) imports against the table, one line each, with file and line."""
    parts = ("noisescale", *file.with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    layer = parts[1]
    if layer in UNBOUND:
        return []
    if layer not in ALLOWED:
        return [f"{file}: the layer {layer!r} has no row in the table of tests/test_layers.py"]
    allowed = ALLOWED[layer] | {layer}
    module = parts[:-1] if is_package else parts
    return [
        f"{file}:{line}: {layer} imports {imported}; it may import only {', '.join(sorted(allowed))}"
        for line, imported in imported_layers(ast.parse(source), module, is_package)
        if imported not in allowed
    ]


def test_imports_follow_the_pipeline() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files, "no source found"
    found = [line for file in files for line in violations(file.read_text("utf-8"), file.relative_to(PACKAGE))]
    assert not found, "\n".join(found)


def test_the_table_itself_has_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(ALLOWED).static_order())
    assert order.index("errors") < order.index("training") < order.index("sweeps") < order.index("claims")


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("datasets/mnist.py", "from noisescale.errors import BadInput\nimport numpy", 0),
        ("datasets/mnist.py", "from noisescale.training import train", 1),
        ("datasets/mnist.py", "import noisescale.sweeps.plan", 1),
        ("datasets/mnist.py", "from noisescale import errors, laws", 1),
        ("datasets/mnist.py", "from noisescale import fit", 1),  # the public surface pulls everything in
        ("datasets/mnist.py", "from .cifar import load", 0),
        ("datasets/mnist.py", "from ..store import Study", 1),
        ("datasets/mnist.py", "from .. import store", 1),
        ("datasets/__init__.py", "from .mnist import load", 0),
        ("datasets/__init__.py", "from ..store import Study", 1),
        ("datasets/mnist.py", "def late():\n    from noisescale.cli import main", 1),
        ("novelty/new.py", "", 1),
        ("cli.py", "from noisescale.report import write", 0),
    ],
)
def test_a_violation_is_seen(file: str, source: str, expected: int) -> None:
    assert len(violations(source, Path(file))) == expected
