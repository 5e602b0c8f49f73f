"""The files that belong to a user's code, however the code loads them, and the same in every process."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid, SweepSpec, failures, sweep
from noisescale.sweeps.code_identity import CODE
from noisescale.sweeps.user_modules import code_digests

MakeSpec = Callable[..., SweepSpec]

MODEL = """
import importlib, importlib.util, os, runpy, sys
from importlib import import_module
from pathlib import Path
from torch import nn

PLACE, NAME = os.path.dirname(__file__), "par" + "ts"

def load(path, name="anything"):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

{statement}

def model(width, shape, classes):
    {in_factory}
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), {hidden}(), nn.Linear(width, classes))
"""
PARTS = """
import math
from torch import nn

class Hidden(nn.Module):
    def forward(self, x):
        return x.tanh() if math.pi > 3 else x
"""
IN_TRAINING = """
class InTraining(nn.Module):
    def forward(self, x):
        global loaded
        if self.training:
            loaded = load(os.path.join(PLACE, NAME + ".py"))
            return loaded.Hidden()(x)
        return x.tanh()
"""
# Ways to load the file: a statement of the module, a statement in the factory, and the class of the hidden layer.
WAYS = {
    "an import by name": ('parts = importlib.import_module("owners.parts")', "", "parts.Hidden"),
    "a relative import by name": ('parts = import_module(".parts", __package__)', "", "parts.Hidden"),
    "an import by name in the factory": ("", 'Hidden = import_module("owners.parts").Hidden', "Hidden"),
    "the built-in function": ("", '__import__("owners.parts")', "sys.modules['owners.parts'].Hidden"),
    "a name that is computed": ('parts = import_module(f"owners.{NAME}")', "", "parts.Hidden"),
    "a name that is computed in the factory": ("", 'parts = import_module(f"owners.{NAME}")', "parts.Hidden"),
    "a path": ('parts = load(os.path.join(PLACE, "parts.py"))', "", "parts.Hidden"),
    "a path that is computed": ('parts = load(os.path.join(PLACE, NAME + ".py"))', "", "parts.Hidden"),
    "a class of a path": ('Hidden = load(os.path.join(PLACE, NAME + ".py")).Hidden', "", "Hidden"),
    "a path in the factory": ("", 'parts = load(os.path.join(PLACE, NAME + ".py"))', "parts.Hidden"),
    "a path in a training pass": (IN_TRAINING, "", "InTraining"),
    "a path that runs": ('parts = runpy.run_path(os.path.join(PLACE, "parts.py"))', "", "parts['Hidden']"),
    "text that is executed": ("", 'exec(Path(PLACE, "parts.py").read_text(), globals())', "Hidden"),
}


@pytest.fixture
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Return a function that writes the package of a user, in which a model loads a second file in some way."""
    package = tmp_path / "owners"

    def write(way: str) -> Path:
        package.mkdir()
        statement, in_factory, hidden = WAYS[way]
        text = MODEL.replace("{statement}", statement).replace("{in_factory}", in_factory).replace("{hidden}", hidden)
        for name, code in {"__init__": "", "model": text, "parts": PARTS, "unused": "X = 1"}.items():
            (package / f"{name}.py").write_text(code)
        return package / "parts.py"

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    forget()


def forget() -> None:
    """Forget the user's modules, as a new process would."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "owners"]:
        del sys.modules[name]


@pytest.fixture
def spec(make_spec: MakeSpec) -> SweepSpec:
    return make_spec(model__family="owners.model:model", grid__parameterization=["own"], grid__width=[4], seeds=1)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_part_of_the_code_however_it_is_loaded(
    way: str, owners: Callable[[str], Path], spec: SweepSpec
) -> None:
    file = owners(way)
    first = Grid(spec).code_at(4)
    assert set(first.files) - {"owners.parts", "owners/parts.py"} == {"owners", "owners.model"}
    # What the process has imported for other reasons makes no difference, and neither do comments.
    __import__("owners.unused")
    assert Grid(spec).code_at(4).files == first.files
    file.write_text(PARTS.replace("def forward", "# A comment.\n    def forward"))
    forget()
    assert first.difference(Grid(spec).code_at(4)) is None
    # The outputs stay the same.
    file.write_text(PARTS.replace("math.pi > 3", "math.pi > 2"))
    forget()
    assert "parts.py" in str(first.difference(Grid(spec).code_at(4)))


@pytest.mark.parametrize("way", ["a path in a training pass", "a name that is computed in the factory"])
@pytest.mark.usefixtures("two_cores")
def test_workers_find_the_files_of_the_driver(
    way: str, owners: Callable[[str], Path], spec: SweepSpec, tmp_path: Path
) -> None:
    file = owners(way)
    assert set(sweep(spec, tmp_path / "out", jobs=2, quiet=True).runs().status) == {"completed"}
    assert failures(tmp_path / "out") == {} and "parts" in (tmp_path / "out" / CODE).read_text()
    file.write_text(PARTS.replace("math.pi > 3", "math.pi > 2"))
    forget()
    grown = spec.model_copy(update={"seeds": (0, 1)})
    with pytest.raises(BadInput, match=r"other code in .*parts\.py"):
        sweep(grown, tmp_path / "out", jobs=1, quiet=True)


def test_a_package_that_imports_its_plugins_has_all_of_them(owners: Callable[[str], Path]) -> None:
    package = owners("an import by name").parent / "plugins"
    (package / "deep").mkdir(parents=True)
    for name in ("first", "second", "deep/__init__", "deep/third"):
        (package / f"{name}.py").write_text("")
    for text, expected in (
        (
            "import pkgutil\nfor part in pkgutil.iter_modules(__path__):\n    __import__(part.name)",
            {"first", "second", "deep"},
        ),
        ("import importlib\nimportlib.import_module('.deep.third', __package__)", {"deep", "deep.third"}),
    ):
        (package / "__init__.py").write_text(text)
        names = {f"owners.plugins.{name}" for name in expected}
        assert set(code_digests(["owners.plugins"])) - {"owners"} == names | {"owners.plugins"}


def test_a_file_of_an_outer_folder_is_named_relative_to_the_package(owners: Callable[[str], Path]) -> None:
    package = owners("an import by name").parent
    (package.parent / "outer.py").write_text("Y = 1")
    (package / "inner.py").write_text("PATHS = ['../outer.py', 'missing.py', 'a\\0.py', 'see outer.py']")
    assert set(code_digests(["owners.inner"])) == {"owners", "owners.inner", "outer.py"}


@pytest.mark.parametrize(("line", "file"), [("from . import parts", "parts"), ("from .unused import X", "unused")])
def test_relative_imports_of_a_module_that_python_runs_are_followed(
    line: str, file: str, owners: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = owners("a path").parent / "script.py"
    script.write_text(line)
    main = types.ModuleType("__main__")
    main.__file__, main.__spec__ = str(script), ModuleSpec("owners.script", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert set(code_digests(["__main__"])) == {"__main__", "owners", f"owners.{file}"}
