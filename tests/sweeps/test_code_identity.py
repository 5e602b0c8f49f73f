"""The code of a user's model and data is part of what a study is."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.sweeps import SettingRuns, SweepSpec, failures, session, sweep
from noisescale.sweeps.code_identity import CODE, CodeIdentity, write_identities
from noisescale.sweeps.user_modules import code_digests
from noisescale.training import default_settings

MakeSpec = Callable[..., SweepSpec]

FILES = {
    "__init__": "",
    "model": """
\"\"\"A model.\"\"\"
from torch import nn
from owners.parts import hidden


def model(width, input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), hidden(), nn.Linear(width, num_classes))
""",
    "parts": """
from torch import nn


def hidden():
    from . import constants
    return nn.Softplus(constants.BETA)
""",
    "constants": "BETA = 1.0",
    "unused": "X = 1",
}


@pytest.fixture
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user: a model, a module that it imports, and one that this imports in a function."""
    package = tmp_path / "owners"
    package.mkdir()
    for name, text in FILES.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    forget()


def forget() -> None:
    """Forget the user's modules, as a new process would."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "owners"]:
        del sys.modules[name]


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    forget()


@pytest.fixture
def spec(make_spec: MakeSpec, owners: Path) -> SweepSpec:
    return make_spec(model__family="owners.model:model", grid__parameterization=["own"], seeds=1)


def grown(spec: SweepSpec) -> SweepSpec:
    return spec.model_copy(update={"seeds": (*spec.seeds, len(spec.seeds))})


def test_digests_follow_imports_and_ignore_layout(owners: Path) -> None:
    importlib.import_module("owners.model")
    first = code_digests(["owners.model"])
    assert set(first) == {"owners", "owners.model", "owners.parts", "owners.constants"}
    edit(owners / "model.py", "A model.", "Another docstring.")
    edit(owners / "parts.py", "    return", "    # A comment.\n\n    return")
    importlib.import_module("owners.model")
    assert code_digests(["owners.model"]) == first
    edit(owners / "constants.py", "1.0", "2.0")
    importlib.import_module("owners.model")
    second = code_digests(["owners.model"])
    assert [name for name in first if first[name] != second[name]] == ["owners.constants"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("model.py", "Linear(width, num", "Linear(width, 1 * num"),
        ("constants.py", "1.0", "2.0"),
        ("parts.py", "nn.Softplus(constants.BETA)", "nn.ELU(constants.BETA)"),
    ],
)
def test_changed_code_is_refused_by_file_and_fitted_apart_if_accepted(
    file: str, old: str, new: str, spec: SweepSpec, owners: Path, tmp_path: Path
) -> None:
    before = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs()
    assert before.code.nunique() == 1 and len(before.code.iloc[0]) == 16
    edit(owners / file, old, new)
    with pytest.raises(BadInput, match=rf"--accept-changed-code. Got: other code in .*owners/{file}"):
        sweep(grown(spec), tmp_path / "out", jobs=1, quiet=True)
    study = sweep(grown(spec), tmp_path / "out", jobs=1, quiet=True, accept_changed_code=True)
    runs = study.runs()
    first, second = (set(runs[runs.seed == seed].code) for seed in (0, 1))
    assert first == set(before.code) and len(second) == 1 and first != second
    assert {group.varied["code"] for group in fit(study).groups} == first | second
    # The changed code is known now, and so is the old one.
    sweep(grown(grown(spec)), tmp_path / "out", jobs=1, quiet=True)
    edit(owners / file, new, old)
    sweep(grown(grown(grown(spec))), tmp_path / "out", jobs=1, quiet=True)


def test_code_that_another_sweep_records_meanwhile_is_compared(
    spec: SweepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(spec, tmp_path / "out", jobs=1, quiet=True, max_seconds=0)
    (tmp_path / "out" / CODE).unlink()
    lock = session.driver_lock

    def late_lock(folder: Path) -> AbstractContextManager[None]:
        write_identities(folder, [CodeIdentity({"owners.model": "another"}, 2, {}, ())])
        return lock(folder)

    monkeypatch.setattr(session, "driver_lock", late_lock)
    with pytest.raises(BadInput, match=r"other code in .*owners/model\.py"):
        sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_comment_changes_nothing(spec: SweepSpec, owners: Path, tmp_path: Path) -> None:
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    edit(owners / "parts.py", "def hidden", "# Another comment.\ndef hidden")
    assert sweep(grown(spec), tmp_path / "out", jobs=1, quiet=True).runs().code.nunique() == 1


def test_a_removed_record_does_not_let_other_code_in(spec: SweepSpec, owners: Path, tmp_path: Path) -> None:
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    (tmp_path / "out" / CODE).unlink()
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    (tmp_path / "out" / CODE).unlink()
    edit(owners / "constants.py", "1.0", "3.0")
    with pytest.raises(BadInput, match="Got: other code"):
        sweep(grown(spec), tmp_path / "out", jobs=1, quiet=True)


@pytest.mark.parametrize("widths", [[1, 2], [2, 1, 3]])
def test_a_removed_record_does_not_keep_a_grid_from_growing(
    widths: list[int], spec: SweepSpec, owners: Path, tmp_path: Path
) -> None:
    grown = spec.model_copy(update={"grid": spec.grid.model_copy(update={"width": tuple(widths)})})
    code = set(sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs().code)
    (tmp_path / "out" / CODE).unlink()
    assert set(sweep(grown, tmp_path / "out", jobs=1, quiet=True).runs().code) == code
    (tmp_path / "out" / CODE).unlink()
    edit(owners / "constants.py", "1.0", "3.0")
    with pytest.raises(BadInput, match="Got: other code"):
        sweep(grown, tmp_path / "out", jobs=1, quiet=True)


@pytest.mark.usefixtures("two_cores")
def test_code_that_differs_in_a_worker_fails_its_packs(spec: SweepSpec, owners: Path, tmp_path: Path) -> None:
    changing = "import multiprocessing\nBETA = 1.0 if multiprocessing.parent_process() is None else 2.0"
    (owners / "constants.py").write_text(changing)
    forget()
    sweep(spec, tmp_path / "out", jobs=2, quiet=True)
    errors = set(failures(tmp_path / "out").values())
    assert errors and all("other outputs of the module of width" in error for error in errors)


@pytest.mark.usefixtures("two_cores")
def test_what_only_a_training_pass_imports_is_the_same_in_workers(
    spec: SweepSpec, owners: Path, tmp_path: Path
) -> None:
    (owners / "late").mkdir()
    for name, text in {"__init__": "", "parts": "SHIFT = 0.5"}.items():
        (owners / "late" / f"{name}.py").write_text(text)
    (owners / "parts.py").write_text(
        "from torch import nn\n\n\nclass hidden(nn.Module):\n    def forward(self, x):\n        if self.training:\n"
        "            from owners.late.parts import SHIFT\n            x = x + SHIFT\n        return x.tanh()\n"
    )
    forget()
    runs = sweep(spec, tmp_path / "out", jobs=2, quiet=True).runs()
    assert set(runs.status) == {"completed"}
    assert "owners.late.parts" in (tmp_path / "out" / CODE).read_text()


def test_the_script_around_a_model_may_change(owners: Path) -> None:
    digests = []
    for seeds in (2, 3):
        (owners / "unused.py").write_text(f"X = 1\n\nif __name__ == '__main__':\n    print({seeds})\n")
        forget()
        importlib.import_module("owners.unused")
        digests.append(code_digests(["owners.unused"])["owners.unused"])
    assert digests[0] == digests[1]


def test_files_that_cannot_be_parsed_or_were_removed_are_no_errors(owners: Path) -> None:
    (owners / "unused.py").write_text(
        "try:\n    from owners import broken\nexcept SyntaxError:\n    pass\nimport owners.gone"
    )
    (owners / "broken.py").write_text("def (")
    (owners / "gone.py").write_text("")
    importlib.import_module("owners.unused")
    (owners / "gone.py").unlink()
    assert set(code_digests(["owners.unused"])) == {"owners", "owners.unused", "owners.broken"}


def test_built_in_models_have_no_code(make_spec: MakeSpec, tmp_path: Path) -> None:
    runs = sweep(make_spec(seeds=1), tmp_path / "out", jobs=1, quiet=True).runs()
    assert set(runs.code) == {""} and not (tmp_path / "out" / CODE).exists()


def test_a_damaged_record_is_refused(spec: SweepSpec, tmp_path: Path) -> None:
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    for text in ("[{}]", "3", '[{"files": 1, "width": 2, "shapes": {}, "outputs": []}]'):
        (tmp_path / "out" / CODE).write_text(text)
        with pytest.raises(BadInput, match="the code's identity as a sweep wrote it"):
            sweep(spec, tmp_path / "out", jobs=1, quiet=True)


@pytest.mark.parametrize("width", ["1e999", "-5", "1000000", "true", "{}"])
def test_a_module_of_another_width_is_not_built(width: str, spec: SweepSpec, tmp_path: Path) -> None:
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    record = tmp_path / "out" / CODE
    record.write_text(record.read_text().replace('"width": 2', f'"width": {width}'))
    with pytest.raises(BadInput, match="widths of the spec|the code's identity as a sweep wrote it"):
        sweep(spec, tmp_path / "out", jobs=1, quiet=True)


def test_a_check_does_not_compare_runs_of_two_codes(spec: SweepSpec, owners: Path, tmp_path: Path) -> None:
    settings = default_settings(10, 120)[:2]
    study = sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    before = SettingRuns(study, 1).train(settings, 2)
    edit(owners / "constants.py", "1.0", "9.0")
    with pytest.raises(BadInput, match="--accept-changed-code"):
        SettingRuns(study, 1).train(settings, 2)
    study = sweep(grown(spec), tmp_path / "out", jobs=1, quiet=True, accept_changed_code=True)
    with pytest.raises(BadInput, match="remove this folder to train them again. Got: runs of other code"):
        SettingRuns(study, 1).train(settings, 2)
    shutil.rmtree(tmp_path / "out" / "check")
    after = SettingRuns(study, 1).train(settings, 2)
    assert len(after) == len(before) == 2


def test_outputs_are_compared_to_rounding() -> None:
    def identity(weights: int = 2, output: float = 1.0) -> CodeIdentity:
        return CodeIdentity({"own": "a"}, 4, {"w": (weights,)}, (output, -2.0))

    assert identity().difference(identity(output=1.000001)) is None
    assert "other outputs" in str(identity().difference(identity(output=1.001)))
    assert "other parameters" in str(identity().difference(identity(weights=3)))
