"""The report of a study: index.html, report.json and the figures in `DIR/report/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from noisescale.errors import BadInput
from noisescale.laws import Fit, Group, Recommendation, Settings, fit, read_check, recommend
from noisescale.report.catalogue import catalogue
from noisescale.report.checked import check_sentences, check_table_data
from noisescale.report.glossary import GLOSSARY
from noisescale.report.headline import headline
from noisescale.report.material import Material
from noisescale.report.numbers import seconds
from noisescale.report.recommended_setting import recommendation_table_data
from noisescale.report.snippet import training_snippet
from noisescale.report.style import pictures, save
from noisescale.report.table_data import TableData
from noisescale.report.tables import fit_table_data, group_name
from noisescale.report.templates import template
from noisescale.store import Study, check_writable, write_atomically

SCHEMA_VERSION = 1

# The report recommends for the largest trained width times this factor, as the quickstart does.
RECOMMENDED_FACTOR = 2

# The page shows the figures of at most this many groups, because each group has eight figures.
MAX_DRAWN_GROUPS = 4


@dataclass(frozen=True)
class _Drawn:
    """A drawn figure with its title and caption."""

    name: str
    title: str
    caption: str
    svg: str


def write_report(study: Study) -> Path:
    """Write DIR/report: one self-contained page, report.json, and every figure as PNG and SVG.

    Args:
        study: A finished study, or a study that still runs.

    Returns:
        The path of index.html.

    Raises:
        BadInput: No run of the grid has finished, or the folder cannot be created.
        OSError: The folder cannot be written.
    """
    result = fit(study)
    runs, curves = study.finished(), study.curves()
    folder = study.folder / "report"
    check_writable(folder)
    if folder.is_symlink():
        raise BadInput(str(folder), "a folder of its own, because nothing is written through links", "a link")
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadInput(str(folder), "a folder that can be created and written", error.strerror) from None
    recommendation, refusal = _recommendation(result, study)
    materials = [_material(group, result, runs, curves, study.spec) for group in result.groups]
    sentences = [_group_sentences(result, material, recommendation) for material in materials]
    drawn = list(_draw(materials, recommendation, folder / "figures"))
    warnings = [_sentence(text) for text in (*result.warnings, *refusal, *_omission_warning(result))]
    check = read_check(study.folder)
    times = _times(study.folder)
    facts = _facts(runs, study.spec)
    data = {
        "schema_version": SCHEMA_VERSION,
        "name": result.name,
        "result": [
            *(sentence for group in sentences for sentence in group),
            *check_sentences(check, fixed=result.fixed),
        ],
        "warnings": warnings,
        "fit": result.as_json(),
        "recommendation": None if recommendation is None else recommendation.as_json(),
        "check": None if check is None else check.as_json(),
        "runs": _counts(runs),
        "facts": facts,
        "times": times,
        "figures": [{"name": figure.name, "title": figure.title, "caption": figure.caption} for figure in drawn],
        "spec": study.spec,
    }
    page = template("page.html.jinja").render(
        title=result.name or study.folder.name,
        subtitle=_subtitle(runs, study.spec),
        result=data["result"],
        warnings=warnings,
        fit_tables=fit_table_data(result),
        each_width="" if result.fixed else " at each width",
        recommendation_tables=[] if recommendation is None else recommendation_table_data(recommendation),
        snippet="" if recommendation is None else training_snippet(study.folder, study.spec, recommendation),
        check_table=None if check is None else check_table_data(check, fixed=result.fixed),
        figures=drawn,
        facts=facts.items(),
        times=_times_table(times),
        glossary=GLOSSARY,
        spec=json.dumps(study.spec, indent=1, ensure_ascii=False),
        data=_script_json(data),
    )
    _write(folder / "report.json", json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False))
    _write(folder / "index.html", page)
    return folder / "index.html"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def _material(group: Group, result: Fit, runs: pd.DataFrame, curves: pd.DataFrame, spec: Mapping[str, Any]) -> Material:
    in_group = runs.purpose == "sweep"
    for name, value in group.varied.items():
        # An epoch drops its last partial batch, so that runs see a little less than the stated number of epochs.
        in_group &= runs[name].between(0.75 * value, value) if name == "epochs" else runs[name] == value
    return Material(group, runs[in_group], curves, result.select_on, Settings.read(spec).units, result.metric)


def _recommendation(result: Fit, study: Study) -> tuple[Recommendation | None, list[str]]:
    """Return the recommendation, or None and a warning with the reason."""
    widths = [width.width for group in result.groups for series in group.series for width in series.widths]
    try:
        width = None if result.fixed else max(widths) * RECOMMENDED_FACTOR
        # An older folder may lack the record of its data, which only the words about the inputs need.
        with suppress(BadInput):
            return recommend(result, width, study=study), []
        return recommend(result, width), []
    except BadInput as error:
        return None, [f"no recommendation: {error}"]


def _group_sentences(result: Fit, material: Material, recommendation: Recommendation | None) -> list[str]:
    follows = recommendation is not None and _follows(recommendation, material.group)
    sentences = headline(material, recommendation if follows else None)
    if len(result.groups) > 1 and sentences:
        sentences[0] = f"{group_name(material.group)}: {sentences[0]}"
    return sentences


def _follows(recommendation: Recommendation, group: Group) -> bool:
    """Return whether a recommendation is based on this group."""
    hyperparameters = group.hyperparameters
    pairs = (
        (recommendation.parameterization, group.parameterization),
        (recommendation.momentum, hyperparameters.get("momentum")),
        (recommendation.weight_decay, hyperparameters.get("weight_decay")),
        (recommendation.init_scale, hyperparameters.get("init_scale")),
    )
    return all(expected is None or value == expected for value, expected in pairs)


def _draw(materials: list[Material], recommendation: Recommendation | None, folder: Path) -> list[_Drawn]:
    drawn = []
    with pictures():
        for index, material in enumerate(materials[:MAX_DRAWN_GROUPS]):
            several = len(materials) > 1
            follows = recommendation is not None and _follows(recommendation, material.group)
            for entry in catalogue(material, recommendation if follows else None):
                name = f"{entry.name}-{index + 1}" if several else entry.name
                title = f"{entry.title} ({group_name(material.group)})" if several else entry.title
                figure = entry.draw()
                if material.group.fixed:
                    _name_model(figure)
                drawn.append(_Drawn(name, title, entry.caption, save(figure, folder, name)))
    return drawn


def _name_model(figure: Figure) -> None:
    """Call the curve or row of a fixed model "model" instead of its width."""
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text() in ("width", "width 1"):
            text.set_text("model")


def _omission_warning(result: Fit) -> list[str]:
    if len(result.groups) <= MAX_DRAWN_GROUPS:
        return []
    return [f"figures show the first {MAX_DRAWN_GROUPS} of {len(result.groups)} groups; the tables show all groups"]


def _sentence(text: str) -> str:
    # If a sentence starts with a key, the key keeps its spelling.
    starts_with_key = "_" in text.split(" ", 1)[0]
    return (text if starts_with_key else text[:1].upper() + text[1:]).rstrip(".") + "."


def _counts(runs: pd.DataFrame) -> dict[str, int]:
    diverged, collapsed = runs.status == "diverged", runs.collapsed.astype(bool)
    counts = {}
    for name, purpose in (("grid", "sweep"), ("stability", "stability"), ("price", "price")):
        part = runs.purpose == purpose
        counts[name] = int(part.sum())
        counts[f"{name}_diverged"] = int((part & diverged).sum())
        counts[f"{name}_collapsed"] = int((part & collapsed & ~diverged).sum())
    return counts


def _count(counts: Mapping[str, int], purpose: str) -> str:
    runs, diverged, collapsed = (counts[name] for name in (purpose, f"{purpose}_diverged", f"{purpose}_collapsed"))
    return f"{runs:,}: {diverged:,} diverged, {collapsed:,} collapsed"


def _subtitle(runs: pd.DataFrame, spec: Mapping[str, Any]) -> str:
    grid = runs[runs.purpose == "sweep"]
    widths = ", ".join(f"{width:g}" for width in sorted(grid.width.unique()))
    first = grid.iloc[0]
    parts = (
        f"{first.dataset}, {first.train_size:,} training and {first.test_size:,} test examples",
        first.family if bool(first.fixed) else f"{first.family}, widths {widths}",
        f"{grid.seed.nunique()} seeds",
        f"{len(runs):,} runs",
    )
    return "; ".join(parts) + "."


def _facts(runs: pd.DataFrame, spec: Mapping[str, Any]) -> dict[str, str]:
    grid, counts = runs[runs.purpose == "sweep"], _counts(runs)
    steps = sorted(grid.steps.unique())
    budget = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    select_on = spec.get("fit", {}).get("select_on", "test")
    return {
        "Runs of the grid": _count(counts, "grid"),
        "Runs of the stability ladder": _count(counts, "stability"),
        **({"Runs at larger rates": _count(counts, "price")} if counts["price"] else {}),
        "Steps of a run": budget,
        "Optimum chosen on": f"{select_on} examples; heights are reported on the test set",
        "Data (SHA-256)": ", ".join(sorted(runs.dataset_hash.unique())),
        "Versions": "; ".join(sorted(runs.versions.unique())),
        "Device": ", ".join(
            sorted({f"{device}, {threads} threads" for device, threads in zip(runs.device, runs.threads, strict=True)})
        ),
        "Training time": f"{seconds(float(runs.seconds.sum()))} on a single worker, summed over all runs",
    }


def _times(folder: Path) -> list[dict[str, Any]]:
    """Read the valid entries of times.jsonl. A line is invalid if the process was killed while it wrote the line."""
    try:
        text = (folder / "times.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and all(name == "command" or _is_time(value) for name, value in entry.items()):
            entries.append({**entry, "command": str(entry.get("command", ""))})
    return entries


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _MAX_SECONDS


# Longer times are invalid. Infinity and NaN are also invalid, because they fail the comparison.
_MAX_SECONDS = 1e12


def _times_table(times: list[dict[str, Any]]) -> TableData | None:
    if not times:
        return None
    names = list(dict.fromkeys(name for entry in times for name in entry if name != "command"))
    rows = [
        (str(entry.get("command", "")), *(seconds(float(entry[name])) if name in entry else "–" for name in names))
        for entry in times
    ]
    notes = ("All times except `wall` are sums over workers.",)
    return TableData("Times of the commands on this folder", ("command", *names), tuple(rows), notes)


def _script_json(data: object) -> str:
    """Return JSON for a script element. No string in it can end the element."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
