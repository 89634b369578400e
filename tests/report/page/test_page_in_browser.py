"""The page in a real browser: nothing fails, nothing is asked of the network, every plot is drawn, on a phone too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import browser, complaints, opened, requests, until
from page_studies import EVIL, ordinary, plain

from tuner.analysis import StudyData, analyze_data
from tuner.report.page.writing import write_page

pytestmark = pytest.mark.slow

LIGHT, DARK = "rgb(244, 245, 247)", "rgb(17, 21, 27)"

DRAWN = "[...document.querySelectorAll('[data-plot]')].every((box) => box.querySelector('.plot-container'))"

LOOK = """
const plots = [...document.querySelectorAll("[data-plot]")].map((box) => ({
  name: box.dataset.plot,
  width: box.querySelector(".main-svg").getBoundingClientRect().width,
  room: box.getBoundingClientRect().width,
  marks: box.querySelectorAll(".scatterlayer path, .barlayer path, .heatmaplayer image, canvas").length,
  ink: getComputedStyle(box.querySelector("text") ?? box).fill,
  text: box.textContent,
}));
return {
  plots,
  wide: document.documentElement.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  headings: [...document.querySelectorAll("h2")].map((heading) => heading.textContent),
  injected: window.injected ?? null,
};
"""


@dataclass(frozen=True)
class Seen:
    """What a browser saw: the page before and after its theme was switched."""

    first: dict[str, Any]
    switched: dict[str, Any]

    @property
    def plots(self) -> dict[str, dict[str, Any]]:
        """The plots by name."""
        return {entry["name"]: entry for entry in self.first["plots"]}


def seen(data: StudyData, folder: Path, width: int = 1280, dark: bool = False) -> Seen:
    """What stands on the page of a study, checked for what must hold of any page."""
    page = folder / "report.html"
    write_page(page, data, analyze_data(data))
    with browser(width, dark) as driver:
        opened(driver, page)
        until(driver, DRAWN)
        first = driver.execute_script(LOOK)
        driver.execute_script("document.getElementById('theme').click()")
        until(driver, f"getComputedStyle(document.body).backgroundColor != '{first['paper']}'")
        until(driver, DRAWN)
        found = Seen(first, driver.execute_script(LOOK))
        assert complaints(driver) == []
        assert requests(driver) == [page.as_uri()]
    assert first["wide"] <= width, "the page scrolls sideways"
    assert first["injected"] is None and found.switched["injected"] is None
    for plot in [*first["plots"], *found.switched["plots"]]:
        assert plot["marks"] > 0, plot
        assert plot["width"] == pytest.approx(plot["room"], abs=2), plot
        assert "WebGL is not supported" not in plot["text"]
    return found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)])
def test_every_plot_is_drawn_at_any_width_in_either_theme(width: int, dark: bool, tmp_path: Path) -> None:
    found = seen(ordinary(), tmp_path, width, dark)
    assert len(found.plots) == 12
    papers = [found.first["paper"], found.switched["paper"]]
    assert papers == ([DARK, LIGHT] if dark else [LIGHT, DARK])
    inks = [entry["plots"][0]["ink"] for entry in (found.first, found.switched)]
    assert inks[0] != inks[1], "the plots follow the theme"


def test_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = {"learning_rate": EVIL, "optimizer": "\"q' & </script>", "layers": "größe 🙂", "category": "c" * 200}
    found = seen(ordinary(names={**names, "metric": "<b>%{x}</b>"}), tmp_path, 360)
    assert "<script>injected=1</script>" in found.plots["slice-0"]["text"]
    assert "<b>%{x}</b>" in found.plots["history"]["text"]


@pytest.mark.parametrize(
    "data",
    [plain([]), plain([0.5], x=[0.1]), plain([None, None], fail=True, x=[0.1, 0.2])],
    ids=["no trial", "one trial", "all failed"],
)
def test_a_study_with_little_in_it_makes_a_page_that_works(data: StudyData, tmp_path: Path) -> None:
    assert "Summary" in seen(data, tmp_path).first["headings"]
