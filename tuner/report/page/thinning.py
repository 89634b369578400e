"""What of a large study is shown, and how that is said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tuner.analysis.trials import cells, even

if TYPE_CHECKING:
    from tuner.analysis import StudyData

SHOWN_STATES = ("complete", "pruned", "diverged", "failed", "running")


@dataclass(frozen=True)
class Limits:
    """The most that the plots hold: trials, the best and the diverged among them; curves, and their points in all."""

    trials: int = 800
    best: int = 100
    diverged: int = 100
    curves: int = 150
    best_curves: int = 20
    diverged_curves: int = 20
    points: int = 30_000
    slices: int = 24

    def halved(self) -> Limits:
        """Half of everything, but something of each."""
        return Limits(**{entry.name: max(2, getattr(self, entry.name) // 2) for entry in fields(self)})


@dataclass(frozen=True)
class Chosen:
    """The numbers of the trials that are shown, ascending, and what was left out; "" where nothing was."""

    numbers: tuple[int, ...]
    note: str


def choose(data: StudyData, among: Sequence[int], most: int, best: int, diverged: int, noun: str) -> Chosen:
    """Of the trials `among`, at most `most`: the `best`, so many that `diverged`, and an even sample of the others.

    `noun` is what they are shown as: "trials", "curves".
    """
    if len(among) <= most:
        return Chosen(tuple(sorted(among)), "")
    there = {*among}
    ranked = data.complete.sort_values("value", ascending=not data.maximize, kind="stable").index.tolist()
    top = [int(number) for number in ranked if number in there][:best]
    state = cells(data.frame, "state")
    lost = [number for number in among if state[number] == "diverged"]
    kept = even(lost, diverged)
    rest = sorted(there - {*top, *lost})
    sample = even(rest, max(most - len(top) - len(kept), 1))
    parts = [f"the best {len(top):,}"] if top else []
    if kept:
        parts.append(f"{len(kept):,} of {len(lost):,} that diverged" if len(kept) < len(lost) else "all that diverged")
    if sample:
        parts.append("an even sample of the others")
    numbers = tuple(sorted({*top, *kept, *sample}))
    return Chosen(numbers, f"{len(numbers):,} of {len(among):,} {noun} are shown: {_listed(parts)}.")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
