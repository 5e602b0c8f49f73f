from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noisescale.laws import Recommendation, Settings, recommend
from noisescale.laws.fitting import fit
from noisescale.report.catalogue import catalogue
from noisescale.report.figures.metric_by_noise import metric_by_noise
from noisescale.report.figures.noise_law import noise_law
from noisescale.report.headline import headline
from noisescale.report.material import Material
from noisescale.report.style import line_styles, log_ticks, pictures, plain, save, thinned

SMALL = {"widths": (32, 64), "batches": (4, 8, 16, 32, 64, 128), "seeds": 3, "stability": False}


@pytest.fixture(scope="module")
def full_study(make_study: Any) -> tuple[Material, Recommendation]:
    study = make_study(seeds=8)
    material = material_of(study)
    return material, recommend(fit(study), 512)


def material_of(study: Any) -> Material:
    fitted, runs = fit(study), study.runs()
    grid = runs[runs.purpose == "sweep"]
    return Material(
        fitted.groups[0], grid, study.curves(), fitted.select_on, Settings.read(study.spec).units, fitted.metric
    )


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (64,)},
        {"seeds": 1},
        {"accuracy": False},
        {"diverged": 0.0},
        {"validation": True},
        {"rates": (1.0, 2.0, 4.0), "diverged": 40.0},
        {"batches": (8,)},
        {"batches": (8,), "rates": (1.0, 2.0, 4.0, 8.0, 16.0)},
    ],
    ids=["one width", "one seed", "loss only", "all diverged", "validation", "two axes", "one cell", "rates"],
)
def test_unusual_studies_have_every_figure_and_sentence(make_study: Any, options: dict[str, Any]) -> None:
    material = material_of(make_study(**{**SMALL, **options}))
    sentences = headline(material, None)
    assert sentences and not any("nan" in sentence for sentence in sentences)
    with pictures():
        for entry in catalogue(material, None):
            entry.draw().draw_without_rendering()
            assert entry.caption.strip().endswith(".") and "nan" not in entry.caption.lower().split()


def test_only_a_noise_law_promises_equal_colors(make_study: Any) -> None:
    study = make_study(**{**SMALL, "rates": (1.0, 2.0, 4.0), "batches": (4, 8)})
    adam = {"optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    nothing = dict.fromkeys(("noise_scale", "normalized_noise_scale", "temperature"), math.nan)
    runs = study.runs().assign(**adam, **nothing)
    other = SimpleNamespace(spec=study.spec, runs=lambda: runs, curves=study.curves)
    for each, promised in ((study, True), (other, False)):
        captions = {entry.name: entry.caption for entry in catalogue(material_of(each), None)}
        assert ("equal ε/B" in captions["heat-map"]) == promised == ("collapse" in captions)


def test_a_full_study_has_a_law_an_edge_and_a_recommendation(full_study: tuple[Material, Recommendation]) -> None:
    material, recommendation = full_study
    names = [entry.name for entry in catalogue(material, recommendation)]
    assert names == ["metric-by-noise", "noise-law", "peak", "stability", "recommendation", "heat-map", "collapse",
                     "learning-curves"]  # fmt: skip
    with pictures():
        for entry in catalogue(material, recommendation):
            if entry.name in ("stability", "recommendation"):
                entry.draw().draw_without_rendering()
        figure = noise_law(material)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith("by accuracy") and "slope" in titles[1]
    sentences = headline(material, recommendation)
    assert sentences[0].startswith("By test accuracy") and any("For width 512" in text for text in sentences)


def test_the_law_by_loss_is_stated_with_its_interval(full_study: tuple[Material, Recommendation]) -> None:
    material = full_study[0]
    law = material.noise_law("loss")
    assert law is not None and law.slope.covers(1.0)
    text = next(text for text in headline(material, None) if text.startswith("By test loss"))
    assert f"width^{law.slope.value:.2f}" in text and "proportional growth" in text


def test_figures_are_reproducible_and_their_ids_do_not_collide(make_study: Any, tmp_path: Path) -> None:
    material = material_of(make_study(**SMALL))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with pictures():
            inline = save(metric_by_noise(material), tmp_path / folder, "sample")
    for name in ("sample.svg", "sample.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert inline.startswith("<svg") and 'id="figure' not in inline and "url(#p" not in inline


def test_the_figure_counts_failed_runs(make_study: Any) -> None:
    material = material_of(make_study(**{**SMALL, "diverged": 20.0}))
    with pictures():
        figure = metric_by_noise(material)
    assert any(text.get_text() == "3/3" for axes in figure.axes for text in axes.texts)


def test_axes_have_plain_numbers() -> None:
    assert [plain(value) for value in (0.25, 32, 4000, 3e6, 1e-5)] == ["0.25", "32", "4,000", "3·10⁶", "10⁻⁵"]
    assert log_ticks(90, 4100, 7) == [100.0, 200.0, 500.0, 1000.0, 2000.0]
    assert thinned([2, 3, 4, 6, 8, 11, 16], 3) == [2, 4, 8, 16]


def test_widths_differ_in_color_and_marker() -> None:
    styles = line_styles([16, 32, 64, 128, 256, 512, 1024])
    assert len({style.color for style in styles.values()}) == len({style.marker for style in styles.values()}) == 7
    assert "D" not in {style.marker for style in styles.values()}
