"""Damaged and hostile data files and caches are used only if they are as published, and never executed."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES, Damage
from hostile import ARRAYS, PICKLES, Executes, pickled
from hypothesis import strategies as st
from running import MARK, Answer, run, sizes, try_many

from noisescale.datasets import cifar10, mnist, mnist1d
from noisescale.datasets.array_cache import load_arrays

SPEC = "data-spec.toml"
OUT = "data-out"


def dry_run(name: str, **keys: Any) -> Answer:
    """Run a spec with this data set in a dry run."""
    more = "".join(f"{key} = {value!r}\n" for key, value in keys.items())
    Path(SPEC).write_text(
        f'name = "data"\nseeds = 1\n[dataset]\nname = "{name}"\n{more}'
        '[model]\nfamily = "mlp"\n[grid]\nwidth = [2]\nbatch_size = [1]\nlearning_rate = [0.5]\n'
        "[training]\nsteps = 2\nevaluations = 2\n[stability]\nseeds = 0\n",
        encoding="utf-8",
    )
    answer = run("sweep", SPEC, "--out", OUT, "--dry-run")
    assert answer.refused or (answer.code, answer.err) == (0, ""), answer
    assert not Path(OUT).exists() and not Path(MARK).exists()
    return answer


def batch(index: int, examples: int = 2) -> dict[bytes, Any]:
    pixels = np.random.default_rng(index).integers(256, size=(examples, 3072), dtype=np.uint8)
    return {b"data": pixels, b"labels": [index, 9][:examples]}


@pytest.fixture
def batches(stand_in_batches: Callable[[Callable[[int], Any]], Path]) -> Path:
    """Write six small batches that replace the published batches of CIFAR-10."""
    return stand_in_batches(batch)


def check_used_only_as_published(path: Path, name: str, damaged: bytes, same: Callable[[bytes], bytes]) -> None:
    """Check that a file is used exactly if its contents are the published contents."""
    whole = path.read_bytes()
    path.write_bytes(damaged)
    try:
        answer = dry_run(name)
    finally:
        path.write_bytes(whole)
    assert answer.refused or same(damaged) == same(whole)
    assert answer.code == 0 or path.name in answer.err


@sizes("batch")
def test_a_damaged_batch(count: int, batches: Path) -> None:
    path = batches / "data_batch_2"
    whole = path.read_bytes()
    check: Callable[[Damage], None] = lambda damage: check_used_only_as_published(  # noqa: E731
        path, "cifar10", damage.apply(whole), lambda content: content
    )
    try_many(count, DAMAGES, check)


LABELS = st.one_of(st.integers(-1, 10), st.integers(-1, 10), st.floats(), st.booleans(), st.none(), ARRAYS)
PIXELS = st.integers(0, 3).map(lambda examples: np.zeros((examples, 3072), np.uint8))
BATCHES = st.fixed_dictionaries({b"data": ARRAYS | PIXELS | PIXELS, b"labels": st.lists(LABELS, max_size=3)})


@sizes("batch pickle")
def test_another_pickle_in_place_of_a_batch(count: int, batches: Path) -> None:
    path = batches / "test_batch"

    def check(content: bytes) -> None:
        check_used_only_as_published(path, "cifar10", content, lambda content: content)

    try_many(count, st.one_of(PICKLES, pickled(BATCHES)), check)


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["data_batch_1", "data_batch_1", "data_batch_2", "../../executed", "/executed", "", "x"]),
        st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]),
        st.sampled_from(["data_batch_1", "data_batch_2", "../x", "/etc/hostname", ""]),
        st.one_of(st.binary(max_size=20), PICKLES),
        st.sampled_from([0, 1, 10**6, 2**40]),
    ),
    max_size=4,
)


def archive_of(members: list[tuple[str, bytes, str, bytes, int]], mode: str) -> bytes:
    """Build a tar file whose members may declare more bytes than they have."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, target, content, excess in members:
            info = tarfile.TarInfo(f"{cifar10.BATCH_FOLDER}/{name}")
            info.type, info.linkname = kind, f"{cifar10.BATCH_FOLDER}/{target}"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
            if kind == tarfile.REGTYPE and excess:
                info.size += excess
                archive.fileobj.write(info.tobuf())
    return buffer.getvalue()


@sizes("archive")
def test_an_archive(count: int, batches: Path) -> None:
    path = batches.parent / cifar10.ARCHIVE.name
    with tarfile.open(path, "w:gz") as archive:
        archive.add(batches, arcname=batches.name)
    for file in batches.iterdir():
        file.unlink()
    batches.rmdir()
    whole = path.read_bytes()
    modes = st.sampled_from(["w:", "w:gz", "w:bz2", "w:xz"])
    contents = st.one_of(DAMAGES.map(lambda damage: damage.apply(whole)), st.builds(archive_of, MEMBERS, modes))

    def unpacked(content: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            files = [archive.extractfile(f"{cifar10.BATCH_FOLDER}/{name}") for name in cifar10.BATCH_MD5]
            return b"".join(file.read() for file in files if file is not None)

    try_many(count, contents, lambda content: check_used_only_as_published(path, "cifar10", content, unpacked))


IDX_SHAPES = {name: (4, *shape[1:]) for name, shape in mnist.FILE_SHAPES.items()}
HEADERS = st.builds(
    lambda magic, sizes, rest: magic + np.array(sizes, dtype=">u4").tobytes() + rest,
    st.sampled_from([b"\0\0\x08\x03", b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\x01\0\x08\x03", b""]),
    st.lists(st.sampled_from([0, 1, 4, 28, 2**31, 2**32 - 1]), max_size=4),
    st.binary(max_size=8) | st.sampled_from([bytes(4 * 28 * 28), bytes(10**7)]),
)


@sizes("idx")
def test_an_idx_file(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    generator, checksums = np.random.default_rng(0), {}
    for name, shape in IDX_SHAPES.items():
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
        content = gzip.compress(header + generator.integers(10, size=shape, dtype=np.uint8).tobytes(), mtime=0)
        (folder / name).write_bytes(content)
        checksums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(mnist, "FILE_SHAPES", IDX_SHAPES)
    monkeypatch.setattr(mnist, "MNIST_MD5", checksums)
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path))
    paths = [folder / name for name in IDX_SHAPES]
    damaged = st.tuples(st.sampled_from(paths), DAMAGES)
    others = st.tuples(st.sampled_from(paths), HEADERS.map(gzip.compress))

    def check(case: tuple[Path, Damage | bytes]) -> None:
        path, change = case
        content = change if isinstance(change, bytes) else change.apply(path.read_bytes())
        check_used_only_as_published(path, "mnist", content, lambda content: content)

    try_many(count, st.one_of(damaged, others), check)


@sizes("cache")
def test_the_cache_of_generated_data(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file in the cache is replaced: the same data is generated again."""
    generator = np.random.default_rng(0)
    curves, labels = generator.standard_normal((mnist1d.BLOCK, 40)), np.arange(mnist1d.BLOCK) % 10
    monkeypatch.setattr(mnist1d, "_check_generator", lambda: None)
    monkeypatch.setattr(mnist1d, "generate_curves", lambda seed, per_class: (curves, labels))
    shapes = {"x": (mnist1d.BLOCK, 40), "y": (mnist1d.BLOCK,)}
    assert dry_run("mnist1d").code == 0
    (path,) = (folder / "cache" / "mnist1d").iterdir()
    whole, expected = path.read_bytes(), load_arrays(path, shapes)
    assert expected is not None

    def check(change: Damage | Archived) -> None:
        path.write_bytes(change.apply(whole))
        assert dry_run("mnist1d").code == 0
        arrays = load_arrays(path, shapes)
        assert arrays is not None and all(np.array_equal(arrays[name], expected[name]) for name in shapes)

    # The ends of a ZIP file hold its headers, which determine how the rest is read.
    ends = st.builds(Damage, st.sampled_from(["flip", "ones", "zeros"]), st.integers(-400, 300), st.just(b""))
    others = st.builds(Archived, st.sampled_from(["x", "y"]), DTYPES, st.sampled_from(list(shapes.values())))
    try_many(count, st.one_of(DAMAGES, ends, others), check)


DTYPES = st.sampled_from(["U3", "S2", "O", "c8", "M8[s]", "V4", "i4,f4"])


@dataclass(frozen=True)
class Archived:
    """An .npz file in which an array has another dtype. Reading an array of objects would execute their pickle.

    Args:
        name: The name of the array.
        dtype: Its dtype.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def apply(self, whole: bytes) -> bytes:
        arrays: dict[str, Any] = {"x": np.zeros((mnist1d.BLOCK, 40), "f4"), "y": np.zeros(mnist1d.BLOCK, "i8")}
        arrays[self.name] = np.zeros(self.shape, self.dtype)
        if self.dtype == "O":
            arrays[self.name].flat[0] = Executes()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()
