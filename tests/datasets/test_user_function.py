from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.errors import BadInput

MODULE = """
import numpy as np

def arrays():
    import own_data.shapes
    x = np.arange(12.0).reshape(own_data.shapes.TRAIN)
    return x, np.array([0, 1, 0, 1]), x[:2], np.array([0, 1])

def raises():
    raise OSError("no disk\\nat all")

def three():
    return 1, 2, 3

def nothing():
    pass

not_a_function = 3
"""


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Create a package in the current working directory."""
    package = tmp_path / "own_data"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "shapes.py").write_text("TRAIN = (4, 3)")
    (package / "load.py").write_text(MODULE)
    (package / "broken.py").write_text("import a_library_that_is_not_installed")
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("own_data")]:
        del sys.modules[name]


def test_a_function_in_the_working_directory_is_called() -> None:
    places = sys.path.copy()
    dataset = load_dataset(DatasetOptions("own_data.load:arrays"))
    assert dataset.x_train.shape == (4, 3)
    assert dataset.name == "own_data.load:arrays"
    assert sys.path == places


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "own_data.absent:arrays",
            "a module 'own_data.absent' that can be .*ModuleNotFoundError: No module named",
        ),
        ("own_data.broken:arrays", "module 'own_data.broken' .*No module named 'a_library_that_is_not_installed'"),
        ("own_data.load:absent", "a name 'absent' in module 'own_data.load'. Got: none"),
        ("own_data.load:not_a_function", "own_data.load:not_a_function must be a function that returns arrays. Got: 3"),
        ("own_data.load:raises", "own_data.load:raises must return arrays. Got: OSError: no disk"),
        ("own_data.load:three", r"must return \(x_train, y_train, x_test, y_test\). Got: 3 values"),
        ("own_data.load:nothing", r"must return \(x_train, y_train, x_test, y_test\). Got: a NoneType"),
        ("own_data/load.py:arrays", 'a name of the form "package.module:name"'),
        ("own_data.load:", 'a name of the form "package.module:name"'),
    ],
)
def test_the_message_names_the_error(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_dataset(DatasetOptions(name))
