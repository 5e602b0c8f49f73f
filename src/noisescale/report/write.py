"""`DIR/report/`: index.html, report.json and the figures, written from a study alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from noisescale.errors import BadInput
from noisescale.laws import Fit, Group, Recommendation, Settings, fit, recommend
from noisescale.report.catalogue import catalogue
from noisescale.report.glossary import GLOSSARY
from noisescale.report.headline import headline
from noisescale.report.material import Material
from noisescale.report.numbers import seconds
from noisescale.report.style import pictures, save
from noisescale.report.tables import TableData, fit_table_data, group_name, recommendation_table_data
from noisescale.report.templates import template
from noisescale.store import Study, write_atomically

SCHEMA_VERSION = 1

# The quickstart's question: what to do at twice the largest width that was trained.
RECOMMENDED_FACTOR = 2

# Figures of further groups stay out of the page: at eight a group, it would grow without end.
MOST_DRAWN_GROUPS = 4


@dataclass(frozen=True)
class _Drawn:
    name: str
    title: str
    caption: str
    svg: str


def write_report(study: Study) -> Path:
    """Write DIR/report: one self-contained page, report.json, and every figure as PNG and SVG.

    Args:
        study: a sweep's folder, finished or growing.

    Returns:
        The path of index.html.

    Raises:
        BadInput: The study holds no finished run of its grid, or the folder cannot be created.
        OSError: The folder cannot be written.
    """
    found = fit(study)
    runs, curves = study.finished(), study.curves()
    folder = study.folder / "report"
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadInput(str(folder), "a folder that can be created and written", error.strerror) from None
    recommendation, refused = _recommendation(found)
    materials = [_material(group, found, runs, curves, study.spec) for group in found.groups]
    sentences = [_of_group(found, material, recommendation) for material in materials]
    drawn = list(_draw(materials, recommendation, found, folder / "figures"))
    warnings = [_sentence(text) for text in (*found.warnings, *refused, *_left_out(found))]
    times = _times(study.folder)
    facts = _facts(runs, study.spec)
    data = {
        "schema_version": SCHEMA_VERSION,
        "name": found.name,
        "result": [sentence for group in sentences for sentence in group],
        "warnings": warnings,
        "fit": found.as_json(),
        "recommendation": None if recommendation is None else recommendation.as_json(),
        "runs": _counts(runs),
        "facts": facts,
        "times": times,
        "figures": [{"name": one.name, "title": one.title, "caption": one.caption} for one in drawn],
        "spec": study.spec,
    }
    page = template("page.html.jinja").render(
        title=found.name or study.folder.name,
        subtitle=_subtitle(runs, study.spec),
        result=data["result"],
        warnings=warnings,
        fit_tables=fit_table_data(found),
        recommendation_tables=[] if recommendation is None else recommendation_table_data(recommendation),
        figures=drawn,
        facts=facts.items(),
        times=_times_table(times),
        glossary=GLOSSARY,
        spec=json.dumps(study.spec, indent=1, ensure_ascii=False),
        data=_inside_script(data),
    )
    _write(folder / "report.json", json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False))
    _write(folder / "index.html", page)
    return folder / "index.html"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def _material(group: Group, found: Fit, runs: pd.DataFrame, curves: pd.DataFrame, spec: Mapping[str, Any]) -> Material:
    own = runs.purpose == "sweep"
    for name, value in group.varied.items():
        own &= runs[name] == value
    return Material(group, runs[own], curves, found.select_on, Settings.read(spec).units, found.metric)


def _recommendation(found: Fit) -> tuple[Recommendation | None, list[str]]:
    widths = [width.width for group in found.groups for series in group.series for width in series.widths]
    try:
        return recommend(found, max(widths) * RECOMMENDED_FACTOR), []
    except BadInput as error:
        return None, [f"no recommendation: {error}"]


def _of_group(found: Fit, material: Material, recommendation: Recommendation | None) -> list[str]:
    several = len(found.groups) > 1
    own = recommendation if recommendation is not None and _follows(recommendation, material.group) else None
    sentences = headline(material, own)
    if several and sentences:
        sentences[0] = f"{group_name(material.group)}: {sentences[0]}"
    return sentences


def _follows(recommendation: Recommendation, group: Group) -> bool:
    """Whether a recommendation was made from this group."""
    known = group.hyperparameters
    pairs = (
        (recommendation.parameterization, group.parameterization),
        (recommendation.momentum, known.get("momentum")),
        (recommendation.weight_decay, known.get("weight_decay")),
        (recommendation.init_scale, known.get("init_scale")),
    )
    return all(other is None or mine == other for mine, other in pairs)


def _draw(materials: list[Material], recommendation: Recommendation | None, found: Fit, folder: Path) -> list[_Drawn]:
    drawn = []
    with pictures():
        for k, material in enumerate(materials[:MOST_DRAWN_GROUPS]):
            several = len(materials) > 1
            own = recommendation if recommendation is not None and _follows(recommendation, material.group) else None
            for entry in catalogue(material, own):
                name = f"{entry.name}-{k + 1}" if several else entry.name
                title = f"{entry.title} ({group_name(material.group)})" if several else entry.title
                drawn.append(_Drawn(name, title, entry.caption, save(entry.draw(), folder, name)))
    return drawn


def _left_out(found: Fit) -> list[str]:
    if len(found.groups) <= MOST_DRAWN_GROUPS:
        return []
    return [f"figures show the first {MOST_DRAWN_GROUPS} of {len(found.groups)} groups; the tables show all"]


def _sentence(text: str) -> str:
    # A sentence that opens with the name of a key keeps the key as it is written.
    named = "_" in text.split(" ", 1)[0]
    return (text if named else text[:1].upper() + text[1:]).rstrip(".") + "."


def _counts(runs: pd.DataFrame) -> dict[str, int]:
    grid = runs.purpose == "sweep"
    diverged, collapsed = runs.status == "diverged", runs.collapsed.astype(bool)
    return {
        "grid": int(grid.sum()),
        "grid_diverged": int((grid & diverged).sum()),
        "grid_collapsed": int((grid & collapsed & ~diverged).sum()),
        "stability": int((~grid).sum()),
        "stability_diverged": int((~grid & diverged).sum()),
        "stability_collapsed": int((~grid & collapsed & ~diverged).sum()),
    }


def _count(counts: Mapping[str, int], purpose: str) -> str:
    own = [counts[name] for name in (purpose, f"{purpose}_diverged", f"{purpose}_collapsed")]
    return f"{own[0]:,}: {own[1]:,} diverged, {own[2]:,} collapsed"


def _subtitle(runs: pd.DataFrame, spec: Mapping[str, Any]) -> str:
    grid = runs[runs.purpose == "sweep"]
    widths = ", ".join(f"{width:g}" for width in sorted(grid.width.unique()))
    first = grid.iloc[0]
    parts = (
        f"{first.dataset}, {first.train_size:,} training and {first.test_size:,} test examples",
        f"{first.family}, widths {widths}",
        f"{grid.seed.nunique()} seeds",
        f"{len(runs):,} runs",
    )
    return "; ".join(parts) + "."


def _facts(runs: pd.DataFrame, spec: Mapping[str, Any]) -> dict[str, str]:
    grid, counts = runs[runs.purpose == "sweep"], _counts(runs)
    steps = sorted(grid.steps.unique())
    budget = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    chosen = spec.get("fit", {}).get("select_on", "test")
    return {
        "Runs of the grid": _count(counts, "grid"),
        "Runs of the stability ladder": _count(counts, "stability"),
        "Steps of a run": budget,
        "Optimum chosen on": f"{chosen} examples; heights reported on the test set",
        "Data (SHA-256)": ", ".join(sorted(runs.dataset_hash.unique())),
        "Versions": "; ".join(sorted(runs.versions.unique())),
        "Device": ", ".join(sorted({f"{d}, {t} threads" for d, t in zip(runs.device, runs.threads, strict=True)})),
        "Training time": f"{seconds(float(runs.seconds.sum()))} of one worker, all runs together",
    }


def _times(folder: Path) -> list[dict[str, Any]]:
    """The lines of times.jsonl; what is no such line, as one that a kill cut short, is left out."""
    try:
        text = (folder / "times.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and all(name == "command" or _is_time(value) for name, value in entry.items()):
            found.append({**entry, "command": str(entry.get("command", ""))})
    return found


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _LONGEST


# Seconds; also what is not finite is above this.
_LONGEST = 1e12


def _times_table(times: list[dict[str, Any]]) -> TableData | None:
    if not times:
        return None
    names = list(dict.fromkeys(name for entry in times for name in entry if name != "command"))
    rows = [
        (str(entry.get("command", "")), *(seconds(float(entry[name])) if name in entry else "–" for name in names))
        for entry in times
    ]
    notes = ("All but wall are summed over workers.",)
    return TableData("Times of the commands on this folder", ("command", *names), tuple(rows), notes)


def _inside_script(data: object) -> str:
    """JSON that no text in it can break out of a script element with."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
