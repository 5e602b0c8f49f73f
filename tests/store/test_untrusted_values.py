"""A validly sealed shard with impossible values is damaged: reading names it, and a sweep moves it aside.

Anybody can seal a file, because the digest has no secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noisescale.errors import BadInput
from noisescale.runs import SEMANTICS, Run, RunResult, id_entry, id_of_entries
from noisescale.store import DamagedFile, Study, move_damaged_shards, read_statuses, seal
from noisescale.store.shards import read_shards

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]
WritePack = Callable[..., Path]
VERSION_01 = Path(__file__).parent / "version-0.1" / "shards"


@pytest.fixture
def shard(tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack) -> Path:
    (tmp_path / "shards").mkdir()
    (tmp_path / "spec.json").write_text("{}")
    return write_pack(tmp_path / "shards", [make_result(make_run(seed=seed)) for seed in range(3)])


def set_values(path: Path, values: dict[str, Any], *, has_ids: bool = False) -> None:
    """Change the first row of a shard and seal it again, on request with the id of the changed run."""
    rows = pq.read_table(path).to_pylist()
    rows[0] |= values
    if has_ids:
        rows[0]["run_id"] = Run.from_record(rows[0]).run_id
    path.write_bytes(seal.seal_table(pa.Table.from_pylist(rows)))


def refused(path: Path) -> str:
    """Return the message that names the shard, after checking that a sweep moves the shard aside."""
    with pytest.raises(BadInput) as message:
        Study.open(path.parent.parent).runs()
    assert str(path) in str(message.value) and str(message.value).isprintable()
    assert move_damaged_shards(path.parent, path.parent.parent / "damaged") == [path.name]
    return str(message.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_size": None}, "no value in the column train_size"),
        ({"label_noise": None}, "no value in the column label_noise"),
        ({"learning_rate": None}, "no value in the column learning_rate"),
        ({"run_id": None}, "no value in the column run_id"),
        ({"versions": None}, "no value in the column versions"),
        ({"collapsed": None}, "no value in the column collapsed"),
        ({"layers": None}, "no value in the column layers"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"width": -4}, "width -4"),
        ({"steps": 2**60}, f"steps {2**60}"),
        ({"label_noise": 1.5}, "label_noise 1.5"),
        ({"momentum": -0.5}, "momentum -0.5"),
        ({"ignore_index": -(2**60)}, f"ignore_index {-(2**60)}"),
        ({"learning_rate": float("nan")}, "learning_rate that is not finite"),
        ({"weight_decay": float("inf")}, "weight_decay that is not finite"),
        ({"status": "weird"}, "status weird"),
        ({"status": "failed"}, "status failed"),
        ({"status": None}, "no value in the column status"),
        ({"purpose": "fun"}, "purpose fun"),
        ({"seed": "1"}, ""),
        ({"curves": {"step": [0.0], "test_loss": [1.0, 2.0]}}, "a curve test_loss of another length"),
    ],
)
def test_an_impossible_value_is_named(values: dict[str, Any], words: str, shard: Path) -> None:
    if "curves" in values:
        assert read_shards(shard.parent, curves=False) is not None
        set_values(shard, values)
        with pytest.raises(DamagedFile, match=words):
            read_shards(shard.parent)
        return
    if "seed" in values:
        table = pq.read_table(shard)
        texts = pa.array([str(seed) for seed in table["seed"].to_pylist()])
        shard.write_bytes(seal.seal_table(table.set_column(table.column_names.index("seed"), "seed", texts)))
    else:
        set_values(shard, values)
    assert words in refused(shard)


@pytest.mark.parametrize(
    ("family", "fits"), [("my\u00a0models:net", True), ("👩\u200d🔬:net", True), ("my\x1b[2J:net", False)]
)
def test_texts_that_a_spec_may_hold_are_read_back(family: str, fits: bool, shard: Path) -> None:
    if fits:
        set_values(shard, {"family": family}, has_ids=True)
        assert family in set(Study.open(shard.parent.parent).runs().family)
    else:
        set_values(shard, {"family": family})
        assert "control characters in the column family" in refused(shard)


@pytest.mark.parametrize("values", [{"seed": 7}, {"learning_rate": 0.25}, {"activation": "tanh"}, {"nesterov": True}])
def test_the_values_of_another_run_are_not_those_of_the_id(values: dict[str, Any], shard: Path) -> None:
    set_values(shard, values, has_ids=True)
    assert len(Study.open(shard.parent.parent).runs()) == 3
    set_values(shard, {**values, "seed": 8})
    assert "in the row of another run" in refused(shard)


@pytest.mark.parametrize("values", [{"status": "weird"}, {"run_id": None}, {"status": "\x1b[2J"}])
def test_the_status_of_a_run_is_checked_without_its_other_columns(values: dict[str, Any], shard: Path) -> None:
    assert set(read_statuses(shard.parent).values()) == {"completed"}
    set_values(shard, values)
    with pytest.raises(DamagedFile, match=shard.name):
        read_statuses(shard.parent)


def test_two_reference_layers_do_not_double_a_run(shard: Path) -> None:
    rows = pq.read_table(shard).to_pylist()
    for layer in rows[0]["layers"]:
        layer["is_reference"] = True
    shard.write_bytes(seal.seal_table(pa.Table.from_pylist(rows)))
    assert "two reference layers" in refused(shard)


def test_studies_of_version_01_pass_the_checks(tmp_path: Path) -> None:
    before = read_shards(VERSION_01)
    assert before is not None and len(before) == 128
    assert move_damaged_shards(VERSION_01, tmp_path / "damaged") == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"purpose": "stability"},
        {"decay": "independent", "weight_decay": 0.1},
        {"decay": "decoupled", "optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        {"learning_rate": 1e-300, "init_scale": 0.1 + 0.2, "seed": 2**32 - 1, "nesterov": True},
        {"activation": "\u00e9\u4e2d", "metrics": "top_5", "clip_norm": 1.0, "blocks": "[1, 2]"},
    ],
)
def test_the_id_of_the_entries_is_the_id_of_the_run(changes: dict[str, Any], make_run: MakeRun) -> None:
    run = make_run(**changes)
    values = {**run.as_dict(), "semantics": SEMANTICS[run.purpose]}
    assert id_of_entries(id_entry(name, values[name]) for name in sorted(values)) == run.run_id


def test_the_id_of_an_older_semantics_is_known(make_run: MakeRun) -> None:
    run = make_run(purpose="stability")
    others = {make_run(purpose="stability", seed=1).run_id, make_run().run_id, "", "0" * 16}
    assert run.has_id(run.run_id) and not any(run.has_id(other) for other in others)


SEAL = b"noisescale.format\x00\x011noisescale.sha256\x40\x00"


@pytest.mark.parametrize("data", [b"", b"PAR1", bytes(3), b'{"run_id": 1}'])
@pytest.mark.parametrize("name", ["x.parquet", "packs-x.parquet"])
def test_a_sealed_file_that_is_not_parquet_is_moved(data: bytes, name: str, shard: Path) -> None:
    begin, end = data + SEAL, b"PAR1"
    digest = hashlib.sha256(begin + b"0" * 64 + end).hexdigest().encode()
    path = shard.with_name(name)
    path.write_bytes(begin + digest + end)
    with pytest.raises(DamagedFile, match=name):
        read_statuses(shard.parent)
    assert "a shard as a sweep wrote it" in refused(path)
    assert len(Study.open(shard.parent.parent).runs()) == 3
