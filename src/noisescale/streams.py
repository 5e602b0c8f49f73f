"""Standard output and error of the command line, whatever their encoding, and also if they are closed."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from io import TextIOWrapper
from typing import TextIO

_HANDLER = "noisescale.spelled"
# How characters are spelled where the encoding lacks them. All others become a question mark.
_SPELLED = {
    "ε": "eps", "ḡ": "gbar", "σ": "sigma", "λ": "lambda", "Σ": "Sigma", "κ": "kappa", "ρ": "rho", "η": "eta",
    "θ": "theta", "δ": "delta", "Δ": "Delta", "α": "alpha", "β": "beta", "γ": "gamma", "φ": "phi", "π": "pi",
    "μ": "mu", "τ": "tau", "χ": "chi", "ω": "omega", "‖": "||", "∞": "inf", "∂": "d", "∇": "grad ",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "±": "+-", "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "…": "...",
    "→": "->", "↔": "<->", "½": "1/2", "√": "sqrt", "°": " deg", "†": "+", "“": '"', "”": '"', "‘": "'", "’": "'",
    "⟨": "<", "⟩": ">", "∑": "sum", "∈": "in", "│": "|", "─": "-", "━": "-", "•": "*",
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)), "⁻": "-", "⁺": "+",
    **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
}  # fmt: skip


def prepare_streams() -> None:
    """Let both streams accept every text."""
    codecs.register_error(_HANDLER, _spell)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, TextIOWrapper):
            # Names of files may hold bytes that no encoding accepts.
            is_unicode = (stream.encoding or "").lower().startswith("utf")
            stream.reconfigure(errors="backslashreplace" if is_unicode else _HANDLER)


@contextmanager
def output_as_errors() -> Iterator[None]:
    """Send what code inside prints to standard error: a user's code may print, and the output is only the results.

    This holds for Python's streams and for the files of the process, which extensions and started programs write to.
    """
    streams = [stream for stream in (sys.stdout, sys.__stdout__) if stream is not None]
    with ExitStack() as stack:
        _flush(streams)
        with suppress(OSError):  # the caller closed one of the files
            output = os.dup(1)
            stack.callback(os.close, output)
            os.dup2(2, 1)
            stack.callback(os.dup2, output, 1)
        # Code may have kept a stream. What it wrote there must leave before the file is the output again.
        stack.callback(_flush, streams)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _flush(streams: list[TextIO]) -> None:
    for stream in streams:
        with suppress(ValueError):  # code of the user may have closed it
            stream.flush()


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(char, "?") for char in text), error.end
