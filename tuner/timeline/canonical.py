"""A timeline's rows, written in one way only: merged by step, absolute steps, the shortest headings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.timeline.column import ACTION, PHASE, STEP, Column
from tuner.timeline.curve import Curve


def headings(curves: Mapping[str, Curve]) -> list[str]:
    """The heading of every curve's column, in order."""
    return [Column(name, curve.space, curve.interpolation).heading for name, curve in curves.items()]


def keyframes(
    curves: Mapping[str, Curve], phases: Sequence[tuple[float, str]], actions: Sequence[tuple[float, str]]
) -> list[dict[str, Any]]:
    """Rows by column, empty cells left out, of plain JSON values.

    The first row has every property's column, None where it is empty, so that their order stays. A step that is not
    whole is a fraction (`+0.5`) between two rows at the whole steps around it, which is exact for every float.
    """
    names = headings(curves)
    columns: dict[str, Mapping[float, Any]] = {PHASE: dict(phases), ACTION: _grouped(actions)}
    columns |= {name: dict(curve.keys) for name, curve in zip(names, curves.values(), strict=True)}
    keyed = {step for keys in columns.values() for step in keys}
    around = {whole for step in keyed if not step.is_integer() for whole in _whole_steps_around(step)}
    rows: list[dict[str, Any]] = []
    for step in sorted(keyed | around):
        wanted = [name for name, keys in columns.items() if step in keys or (name in names and not rows)]
        rows.append({STEP: _cell_of(step)} | {name: columns[name].get(step) for name in wanted})
    return rows


def _grouped(actions: Sequence[tuple[float, str]]) -> dict[float, str]:
    """The actions of each step in one cell."""
    cells: dict[float, str] = {}
    for step, name in actions:
        cells[step] = f"{cells[step]};{name}" if step in cells else name
    return cells


def _whole_steps_around(step: float) -> tuple[float, float]:
    return float(math.floor(step)), float(math.floor(step) + 1)


def _cell_of(step: float) -> int | str:
    return int(step) if step.is_integer() else f"+{step - math.floor(step)!r}"
