"""Several studies on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from timed import in_turn

from tuner.analysis.several import Several, compare_studies
from tuner.report.several import print_several, several_sections


def printed(several: Several, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_several(several, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def three(maximize: bool = True) -> Several:
    values = {"first": [0.5, 0.8], "second": [0.5, 0.6, None, 0.9], "third-of-a-long-name": [0.1] * 6}
    return compare_studies([in_turn(name, found, maximize=maximize) for name, found in values.items()])


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(cell_len(line.rstrip()) for line in printed(three(), width).splitlines()) <= width


def test_which_is_ahead_is_said_in_words() -> None:
    text = printed(three(), 100)
    assert "after 2 trials each first is ahead; after 2 s of wall time each first is ahead" in text
    assert "after 2 trials each third-of-a-long-name is ahead" in printed(three(maximize=False), 100)


def test_each_curve_is_drawn_with_its_letter() -> None:
    text = printed(three(), 100)
    plot = text.partition("value over trials\na first, b second, c third-of-a-long-name\n")[2].partition("->")[0]
    assert all(letter in plot for letter in "abc")


def test_values_over_orders_of_magnitude_are_drawn_on_a_log_scale() -> None:
    pair = [in_turn(name, [1000.0, 1.0, 0.5, 0.1 + 0.1 * at], maximize=False) for at, name in enumerate("ab")]
    assert "value over trials, log scale" in printed(compare_studies(pair), 100)


def test_studies_without_trials_are_told_as_such() -> None:
    text = printed(compare_studies([in_turn("a", []), in_turn("b", [])]), 80)
    assert "no study has a complete trial with a value" in text
    assert "none is ahead" in text


def test_a_comparison_has_the_same_sections_whatever_there_is() -> None:
    titles = ["Studies side by side", "Best value so far", "Best settings", "More than chance?"]
    for several in (three(), compare_studies([in_turn("a", []), in_turn("b", [0.5])])):
        assert [section.title for section in several_sections(several)] == titles
