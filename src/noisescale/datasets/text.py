"""Any text file as a sequence of bytes. A model predicts the next byte.

The text is cut into windows of T bytes, one after another. Example i has the bytes i·T to i·T + T − 1 as inputs and the
bytes i·T + 1 to i·T + T as targets, so that each byte is a target once. The windows are split by position: first the
training examples, then the validation set, and at the end of the file the test set. At most T bytes at the end are not
used.

The file is mapped into memory and never read as a whole, so it may be larger than the memory.
"""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

import numpy as np

from noisescale.datasets.dataset import DatasetOptions, RawArrays
from noisescale.errors import BadInput

DEFAULT_CONTEXT = 64
# Share of the windows in the test set, if `test_size` is not given.
TEST_SHARE = 10
BYTES = 256

_CHUNK = 2**20


def load_text(options: DatasetOptions) -> RawArrays:
    """Return the windows [N, T] of a file, as views of the file's bytes.

    Args:
        options: `path` of the file, `context` T (64 if not given), `test_size` (a tenth of the windows if not given).

    Raises:
        BadInput: The file is missing or not in UTF-8, the text is too short for the context, or no window would be left
            for training or for the test.
    """
    if options.path is None:
        raise BadInput("dataset.path", "the path of a text file, for dataset.name = 'text'")
    path, context = Path(options.path).expanduser(), options.context or DEFAULT_CONTEXT
    digest = _digest_of_text(path)
    size = path.stat().st_size
    if not size:
        raise BadInput("dataset.path", "a text", f"{path}, which is empty")
    windows = (size - 1) // context
    if windows < 2:
        required = f"at most {max(0, (size - 1) // 2)}, so that the {size} bytes of the text have two windows"
        raise BadInput("dataset.context", required, context)
    test = windows // TEST_SHARE if options.test_size is None else options.test_size
    if test == 0:
        required = f"given, or {TEST_SHARE} windows of dataset.context = {context} bytes, of which one is for the test"
        raise BadInput("dataset.test_size", required, f"{windows} windows")
    if test >= windows:
        required = f"below the number of windows, {windows}, so that one is left for training"
        raise BadInput("dataset.test_size", required, test)
    text = np.memmap(path, dtype=np.uint8, mode="r")
    inputs, targets = (text[first : first + windows * context].reshape(windows, context) for first in (0, 1))
    train = windows - test
    return RawArrays(
        x_train=inputs[:train],
        y_train=targets[:train],
        x_test=inputs[train:],
        y_test=targets[train:],
        num_outputs=BYTES,
        vocabulary=BYTES,
        consecutive=True,
        digest=digest,
    )


def _digest_of_text(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex, after checking that they are a text in UTF-8."""
    digest, decoder, position = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                decoder.decode(chunk)
                position += len(chunk)
        decoder.decode(b"", final=True)
    except OSError as error:
        raise BadInput("dataset.path", "the path of a readable text file", f"{path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        # The decoder's object begins with the incomplete character at the end of the chunk before.
        place = position - len(error.object) + len(chunk) + error.start
        raise BadInput("dataset.path", "a text file in UTF-8", f"{path}, where byte {place} is not") from error
    return digest.hexdigest()
