"""The page on timelines says what is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tuner.timeline import parse_timeline, read_csv

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")


def test_the_table_and_the_keys_of_the_page(tmp_path: Path) -> None:
    (text,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (value,) = re.findall(r"```\n(timeline: .*?)```", PAGE, re.DOTALL)
    (tmp_path / "timelines").mkdir()
    (tmp_path / "timelines" / "smooth.csv").write_text(text)
    written = read_csv(tmp_path / "timelines" / "smooth.csv")
    assert written.phases == ((0, "warm up"), (500, "explore"), (7500, "settle"))
    assert written.actions == ((500, "anchor"),)
    assert [step for step, _ in written.curves["learning_rate"].keys] == [0, 10, 7500, 10_000]
    given = yaml.safe_load(value)["timeline"]
    changed = parse_timeline(given, "here", [tmp_path])
    assert changed.steps == 20_000
    assert changed.at(10, 20_000)["learning_rate"] == 0.02
    assert changed.at(7_500, 20_000)["separate"] == 0.4
