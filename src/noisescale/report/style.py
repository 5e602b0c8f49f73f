"""The style of the figures: sizes, colors that remain distinct in a gray print, and axes with plain numbers."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from noisescale.store import write_atomically

# Width of a figure in inches. On a page of 760 pixels, a font of 10 points then appears 11 pixels high.
PAGE_WIDTH = 9.2
DOTS_PER_INCH = 130

Color = str | tuple[float, float, float, float]
INK, MUTED, ACCENT = "#1b1b1b", "#6b6b6b", "#c2410c"
LINES = ("-", "--", "-.", ":")
# There is no diamond, because diamonds mark optima.
MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">", "*", "p")

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "noisescale",
    "svg.fonttype": "path",
}

# Largest number of labelled ticks on an axis half a page wide.
_MAX_TICKS = 7


@contextmanager
def pictures() -> Iterator[None]:
    """Apply the settings for making and saving figures, and restore the caller's settings afterwards."""
    with mpl.rc_context():
        # From matplotlib's defaults, not from the user's file: it may ask for LaTeX, or for a font of another machine.
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


@dataclass(frozen=True)
class LineStyle:
    """The color, marker and line style of a curve.

    Args:
        color: Color, as matplotlib accepts it.
        marker: Name of the marker.
        line: Line style, one of `LINES`.
    """

    color: Color
    marker: str
    line: str


def line_styles(keys: Sequence[float]) -> dict[float, LineStyle]:
    """Return a style for each value, from dark to light, so that the order remains visible in a gray print."""
    ordered = sorted(set(keys))
    colors = mpl.colormaps["viridis"](np.linspace(0.0, 0.82, max(len(ordered), 2)))
    return {
        key: LineStyle(tuple(colors[index]), MARKERS[index % len(MARKERS)], LINES[index % len(LINES)])
        for index, key in enumerate(ordered)
    }


def new_figure(height: float, width: float = PAGE_WIDTH) -> Figure:
    """Make an empty figure without pyplot's global state. By default it has the width of the page."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def plain(value: float) -> str:
    """Format a number for an axis: 0.25, 32, 4,000, 3·10⁶."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        power = math.floor(math.log10(size) + 1e-9)
        lead = value / 10.0**power
        head = "" if abs(lead - 1) < 1e-6 else f"{lead:.2g}·"
        return f"{head}10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def log_ticks(low: float, high: float, max_ticks: int = _MAX_TICKS) -> list[float]:
    """Return round numbers between two positive ends, at most `max_ticks` of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leads in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [lead * 10.0**power for power in powers for lead in leads]
        ticks_in_range = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks_in_range) <= max_ticks:
            return ticks_in_range
    return ticks_in_range[:: math.ceil(len(ticks_in_range) / max_ticks)]


def thinned(values: Sequence[float], max_ticks: int) -> list[float]:
    """Return the values that become ticks on a log axis. Values too close to the previous tick are left out."""
    ordered = sorted(set(values))
    if len(ordered) < 2:
        return ordered
    spacing = math.log(ordered[-1] / ordered[0]) / max_ticks
    ticks = [ordered[0]]
    for value in ordered[1:]:
        if math.log(value / ticks[-1]) >= spacing * 0.999:
            ticks.append(value)
    return ticks


def log_scale(axes: Axes, which: str, values: Sequence[float] | None = None, max_ticks: int = _MAX_TICKS) -> None:
    """Make an axis logarithmic, with ticks at the given values or at round numbers of its range."""
    getattr(axes, f"set_{which}scale")("log")
    axis: Axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    ticks = log_ticks(low, high, max_ticks) if values is None else thinned(values, max_ticks)
    if len(ticks) < 2 and values is None:
        # Over less than a factor of two, linear ticks are almost evenly spaced.
        ticks = [tick for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def pad_log(axes: Axes, which: str, values: Sequence[float], share: float = 0.06) -> None:
    """Set the limits of a log axis slightly beyond the positive, finite values."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    if not positive:
        return
    low, high = math.log(min(positive)), math.log(max(positive))
    room = max(share * (high - low), 0.12)
    getattr(axes, f"set_{which}lim")(math.exp(low - room), math.exp(high + room))


def legend_below(figure: Figure, handles: Sequence[object], columns: int, title: str | None = None) -> None:
    """Add a legend for all panels, below them."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, title=title)


def panel_grid(figure: Figure, count: int, columns: int, xlabel: str, ylabel: str) -> list[Axes]:
    """Make panels row by row with shared scales. Only the lowest panel of a column labels its x axis."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for k, axes in enumerate(panels[:count]):
        lowest = k + columns >= count
        axes.tick_params(labelbottom=lowest, bottom=lowest)
        if lowest:
            axes.set_xlabel(xlabel)
        if k % columns == 0:
            axes.set_ylabel(ylabel)
    for axes in panels[count:]:
        axes.remove()
    return panels[:count]


def message(text: str, height: float = 1.6) -> Figure:
    """Make a figure with a message in place of a plot."""
    figure = new_figure(height)
    # matplotlib warns about laying out a figure without axes.
    figure.set_layout_engine("none")
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, wrap=True)
    return figure


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write NAME.png and NAME.svg, with identical bytes for identical data.

    Args:
        figure: Figure to save.
        folder: Folder of the files.
        name: Stem of the file names.

    Returns:
        The svg element for a page. Its ids start with the name, so that a page can contain several figures.
    """
    # Compute the layout once, because savefig would compute it twice for each of the two files.
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    # Files are replaced as a whole, because a file in the folder may have another name elsewhere.
    write_atomically(
        folder / f"{name}.png",
        lambda file: figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None}),
    )
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    write_atomically(folder / f"{name}.svg", lambda file: file.write(text.encode("utf-8")))
    element = text[text.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'((?:xlink:)?href="#)', rf"\1{name}-", element)
    return re.sub(r"url\(#", f"url(#{name}-", element)
