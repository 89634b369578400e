"""The report as a page: its words, what its plots hold, and what it says of a study that is too large to show."""

from __future__ import annotations

import json
import math
import re
from html import escape
from pathlib import Path
from typing import Any

import pytest
from page_studies import EVIL, large, ordinary, plain

from tuner.analysis import StudyData, analyze_data
from tuner.report.page.drawing import BUDGET_BYTES, Drawn, drawn
from tuner.report.page.writing import write_page
from tuner.report.sections import sections

PLOTS = {
    "history", "parallel", "importance", "slice-0", "slice-1", "slice-2", "pair", "gap", "states", "gradients",
    "curves", "timeline",
}  # fmt: skip


def made(data: StudyData) -> Drawn:
    return drawn(data, analyze_data(data))


def content(plots: Drawn) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(plots.text, parse_constant=refuse))


def written(data: StudyData, folder: Path) -> str:
    write_page(folder / "report.html", data, analyze_data(data))
    return (folder / "report.html").read_text()


def without_library(page: str) -> str:
    return re.sub(r"<script>\s*/\*\*.*?</script>", "", page, flags=re.DOTALL)


def test_every_section_and_reading_of_the_terminal_report_is_on_the_page(tmp_path: Path) -> None:
    data = ordinary()
    page = without_library(written(data, tmp_path))
    for section in sections(analyze_data(data)):
        assert f"<h2>{section.title.partition(' (')[0]}</h2>" in page
        for part in section.parts:
            assert page.count("<table>") >= 1 and all(f">{escape(column.header)}<" in page for column in part.columns)
    assert "best: trial" in page


def test_every_plot_is_there_and_named_trials_have_a_text() -> None:
    found = content(made(ordinary()))
    assert set(found["figures"]) == PLOTS
    named = {
        number
        for figure in found["figures"].values()
        for trace in figure["data"]
        for number in trace.get("customdata", [])
        if number is not None
    }
    assert {str(number) for number in named} == set(found["trials"])
    assert "learning_rate = " in found["trials"]["0"]


def test_the_history_holds_each_value_and_the_best_so_far() -> None:
    data = ordinary()
    figure = content(made(data))["figures"]["history"]
    traces = {trace["name"]: trace for trace in figure["data"]}
    values = {n: v for n, v in enumerate(data.records.values) if data.records.states[n] == "COMPLETE"}
    shown = dict(zip(traces["complete"]["x"], traces["complete"]["y"], strict=True))
    assert shown == pytest.approx(values, rel=1e-5)
    best = -math.inf
    for number, value in values.items():
        best = max(best, value)
        steps = zip(traces["best so far"]["x"], traces["best so far"]["y"], strict=True)
        assert [y for x, y in steps if x <= number][-1] == pytest.approx(best, rel=1e-5)
    diverged = {trace["name"]: trace for trace in figure["data"] if trace.get("yaxis") == "y2"}["diverged"]
    assert len(diverged["x"]) == sum(note is True for note in data.records.note("diverged"))


def test_states_are_told_apart_by_colour_and_by_symbol() -> None:
    figure = content(made(ordinary(100)))["figures"]["history"]
    looks = {
        (trace["name"], trace["marker"]["color"], trace["marker"]["symbol"])
        for trace in figure["data"]
        if "marker" in trace
    }
    assert {"complete", "pruned", "diverged", "failed"} <= {name for name, _, _ in looks}
    assert len({colour for _, colour, _ in looks}) == len({symbol for _, _, symbol in looks}) == len(looks)


def test_the_best_curve_is_emphasized_and_diverged_ones_are_marked() -> None:
    data = ordinary()
    traces = content(made(data))["figures"]["curves"]["data"]
    best = next(trace for trace in traces if trace["name"] == "best")
    assert {*best["customdata"]} - {None} == {analyze_data(data).best.number}  # type: ignore[union-attr]
    lines = {trace["name"]: trace for trace in traces if trace["mode"] == "lines"}
    assert lines["pruned"]["opacity"] < lines["best"]["opacity"]
    (ends,) = [trace for trace in traces if trace["mode"] == "markers"]
    assert {*ends["x"]} == {2}, "the third report is NaN"


@pytest.mark.parametrize("maximize", [True, False])
def test_strong_colours_stand_for_good_values(maximize: bool) -> None:
    figures = content(made(ordinary(maximize=maximize)))["figures"]
    assert figures["parallel"]["data"][0]["line"]["reversescale"] is not maximize
    assert figures["pair"]["data"][0]["reversescale"] is not maximize


def test_the_map_of_the_strongest_pair_holds_mean_values() -> None:
    data = plain([1.0, 3.0, 5.0, 10.0] * 4, x=[0.1, 0.1, 0.9, 0.9] * 4, y=[0.2, 0.2, 0.2, 0.8] * 4)
    grid = content(made(data))["figures"]["pair"]["data"][0]["z"]
    assert sorted(cell for row in grid for cell in row if cell is not None) == [2.0, 5.0, 10.0]


def test_texts_of_the_user_are_escaped(tmp_path: Path) -> None:
    names = {
        "learning_rate": EVIL, "optimizer": "\"quotes' & </script>", "layers": "größe 🙂", "category": "c" * 200,
        "metric": "<img src=x onerror=injected=1>", "study": "</title><b>",
    }  # fmt: skip
    page = without_library(written(ordinary(names=names), tmp_path))
    assert EVIL not in page and "<img" not in page and "<b>" not in page.partition("<main>")[0]
    assert page.count("</script>") == 2, "the data's and the page's own: no text ends one"
    assert "&lt;script&gt;injected=1" in page and "größe 🙂" in page
    assert "&amp;lt;" not in page, "nothing is escaped twice"
    assert "c" * 100 not in page.partition('id="figures"')[2], "plots cut long names"


@pytest.mark.parametrize(
    ("data", "plots"),
    [
        (plain([]), set()),
        (plain([0.5], x=[0.1]), {"history", "timeline"}),
        (plain([None, None], fail=True, x=[0.1, 0.2]), {"history", "states", "timeline"}),
        (plain([0.5] * 12, x=[n / 12 for n in range(12)]), {"history", "slice-0", "timeline"}),
        (
            plain([math.inf, -math.inf, 1e120, 0.5, 0.25], x=[0.1, 0.2, 0.3, 0.4, 0.5]),
            {"history", "parallel", "slice-0", "states", "timeline"},
        ),
    ],
    ids=["no trial", "one trial", "all failed", "constant", "infinite"],
)  # fmt: skip
def test_odd_studies_have_the_plots_that_they_can(data: StudyData, plots: set[str], tmp_path: Path) -> None:
    found = made(data)
    assert set(content(found)["figures"]) == plots
    page = without_library(written(data, tmp_path))
    assert page.count("data-plot=") == len(plots)
    assert "<h2>Summary</h2>" in page


def test_a_small_study_is_shown_whole() -> None:
    assert not any("are shown" in figure.note for figure in made(ordinary()).figures)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"trials": 10_000, "parameters": 8, "reports": 20}, "800 of 10,000 trials are shown: the best 100, 100 of"),
        ({"trials": 300, "parameters": 3, "reports": 5_000}, "150 of 300 learning curves are shown: the best 20"),
        ({"trials": 900, "parameters": 50, "reports": 2, "categories": 10, "length": 200}, "800 of 900 trials"),
    ],
    ids=["many trials", "long curves", "many parameters"],
)
def test_large_studies_are_thinned_and_the_page_says_so(shape: dict[str, int], said: str) -> None:
    data = large(**shape)
    plots = made(data)
    assert len(plots.text.encode()) < BUDGET_BYTES
    assert any(said in figure.note for figure in plots.figures), [figure.note for figure in plots.figures]
    shown = {number for trace in content(plots)["figures"]["history"]["data"] for number in trace.get("customdata", [])}
    ranked = sorted((value, number) for number, value in enumerate(data.records.values) if not math.isnan(value))
    assert {number for _, number in ranked[:100]} <= shown, "the best are all there"


def test_plots_are_thinned_further_until_they_fit() -> None:
    data = large(600, 4, 30)
    plots = drawn(data, analyze_data(data), budget=60_000)
    assert len(plots.text.encode()) <= 60_000
    assert any("of 600 trials are shown" in figure.note for figure in plots.figures)


def test_a_thinned_category_names_how_many_share_a_place() -> None:
    data = large(400, 1, 1, categories=1)
    axes = [
        figure["layout"]["xaxis"] for figure in content(made(data))["figures"].values() if "xaxis" in figure["layout"]
    ]
    (texts,) = [axis["ticktext"] for axis in axes if any(text.endswith("others") for text in axis.get("ticktext", []))][
        :1
    ]
    assert len(texts) == 20
    distinct = len({*data.records.parameters["model.choice_0"]})
    assert texts[-1] == f"{distinct - 19} others"
