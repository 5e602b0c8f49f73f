"""Imports follow the pipeline, and a package is imported from only through its face."""

from __future__ import annotations

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "noisescale"

# Layer -> the layers that it may import. A layer may always import itself. A new package is a new row, above the layers
# that it imports and below those that import it; `cli`, `__main__` and the package's `__init__` may import everything.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "seeding": set(),
    "streams": set(),
    "user_code": {"errors"},
    "runs": {"errors"},
    "noise_laws": {"errors"},
    "edge_rules": set(),
    "input_shapes": set(),
    "named_inputs": {"errors"},
    "estimate": set(),
    "families": {"errors", "runs", "input_shapes", "named_inputs", "seeding", "user_code"},
    "parameterizations": {"errors", "input_shapes", "runs", "seeding"},
    "datasets": {"errors", "input_shapes", "named_inputs", "seeding", "user_code"},
    "theory": {"errors", "estimate", "runs"},
    "measure": {
        "errors",
        "estimate",
        "runs",
        "input_shapes",
        "named_inputs",
        "families",
        "datasets",
        "seeding",
        "user_code",
    },
    "training": {
        "errors",
        "estimate",
        "runs",
        "input_shapes",
        "named_inputs",
        "noise_laws",
        "families",
        "parameterizations",
        "datasets",
        "theory",
        "measure",
        "seeding",
        "user_code",
    },
    "store": {"errors", "estimate", "runs", "noise_laws", "input_shapes"},
    "sweeps": {
        "edge_rules",
        "errors",
        "estimate",
        "runs",
        "input_shapes",
        "named_inputs",
        "noise_laws",
        "families",
        "parameterizations",
        "datasets",
        "measure",
        "training",
        "store",
        "seeding",
        "user_code",
    },
    # A recommendation builds the model that it recommends and its optimizer, hence families to training.
    "laws": {
        "edge_rules",
        "errors",
        "estimate",
        "runs",
        "input_shapes",
        "named_inputs",
        "noise_laws",
        "families",
        "parameterizations",
        "training",
        "store",
        "seeding",
    },
    "claims": {
        "errors",
        "estimate",
        "runs",
        "named_inputs",
        "noise_laws",
        "families",
        "datasets",
        "parameterizations",
        "training",
        "theory",
        "measure",
        "sweeps",
        "store",
        "laws",
    },
    # The check of a recommendation trains it, so it needs both the laws and the sweeps.
    "check": {"errors", "parameterizations", "training", "store", "sweeps", "laws"},
    "exports": {"errors", "estimate", "runs", "store", "training"},
    "report": {"errors", "estimate", "runs", "input_shapes", "store", "measure", "training", "laws", "claims"},
}
UNBOUND = {"cli", "__main__", "__init__"}
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))


def imported_modules(tree: ast.AST, module: tuple[str, ...], is_package: bool) -> list[tuple[int, tuple[str, ...]]]:
    """List (line, module path below `noisescale`) of every import from the package, wherever it is in the file.

    `from noisescale import name` gives `name`; a name that is not a layer is part of the public surface, `__init__`.
    """
    imports: list[tuple[int, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One dot means the package of the module: the parent folder of a module, or the folder of an `__init__`.
            anchor = module[: len(module) - node.level + is_package] if node.level else ()
            base = anchor + tuple(node.module.split(".") if node.module else ())
            paths = [base + (alias.name,) for alias in node.names] if base == ("noisescale",) else [base]
        else:
            continue
        for path in paths:
            if path[0] == "noisescale":
                known = len(path) > 1 and path[1] in ALLOWED.keys() | UNBOUND
                imports.append((node.lineno, path[1:] if known else ("__init__",)))
    return imports


def violations(source: str, file: Path) -> list[str]:
    """List the imports of `file`, relative to the package's folder, that break a rule."""
    parts = ("noisescale", *file.with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    layer = parts[1]
    if layer not in ALLOWED | dict.fromkeys(UNBOUND):
        return [f"{file}: the layer {layer!r} has no row in the table of tests/test_layers.py"]
    allowed = set(ALLOWED) | UNBOUND if layer in UNBOUND else ALLOWED[layer] | {layer}
    lines = []
    for line, path in imported_modules(ast.parse(source), parts[:-1] if is_package else parts, is_package):
        if path[0] not in allowed:
            lines.append(f"{file}:{line}: {layer} imports {path[0]}; it may import only {', '.join(sorted(allowed))}")
        elif path[0] != layer and len(path) > 1:
            lines.append(f"{file}:{line}: {layer} imports {'.'.join(path)}; import from the face, noisescale.{path[0]}")
    return lines


def test_imports_follow_the_pipeline() -> None:
    files = sorted(path for suffix in ("*.py", "*.pyi") for path in PACKAGE.rglob(suffix))
    assert len(files) > 100
    lines = [line for file in files for line in violations(file.read_text("utf-8"), file.relative_to(PACKAGE))]
    assert not lines, "\n".join(lines)


def test_the_table_itself_has_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(ALLOWED).static_order())
    assert order.index("errors") < order.index("training") < order.index("sweeps") < order.index("claims")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_face_is_that_name(package: str) -> None:
    """An exported name must not be a module of the package: importing that module would replace it."""
    face = importlib.import_module(f"noisescale.{package}")
    modules = {path.stem for path in (PACKAGE / package).iterdir() if path.stem != "__init__"}
    assert face.__all__
    for name in face.__all__:
        assert hasattr(face, name)
        assert name not in modules or (PACKAGE / package / name).is_dir()


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("datasets/mnist.py", "from noisescale.errors import BadInput\nimport numpy", 0),
        ("datasets/mnist.py", "from noisescale.training import train", 1),
        ("datasets/mnist.py", "import noisescale.sweeps.plan", 1),
        ("datasets/mnist.py", "from noisescale import errors, laws", 1),
        ("datasets/mnist.py", "from noisescale import fit", 1),  # the public surface imports everything
        ("datasets/mnist.py", "from .cifar import load", 0),
        ("datasets/mnist.py", "from ..store import Study", 1),
        ("datasets/mnist.py", "from .. import store", 1),
        ("datasets/__init__.py", "from .mnist import load", 0),
        ("datasets/__init__.pyi", "from .mnist import load as load", 0),
        ("datasets/__init__.py", "from ..store import Study", 1),
        ("datasets/mnist.py", "def late():\n    from noisescale.cli import main", 1),
        ("sweeps/plan.py", "from noisescale.store import Study", 0),
        ("sweeps/plan.py", "from noisescale.store.study import Study", 1),
        ("sweeps/plan.py", "import noisescale.store.study", 1),
        ("sweeps/plan.py", "from noisescale.sweeps.grid import Grid", 0),
        ("novelty/new.py", "", 1),
        ("cli/report.py", "from noisescale.report import write", 0),
        ("cli/report.py", "from noisescale.report.write import write", 1),
        ("__init__.pyi", "from .laws import fit as fit", 0),
    ],
)
def test_a_violation_is_seen(file: str, source: str, expected: int) -> None:
    assert len(violations(source, Path(file))) == expected
