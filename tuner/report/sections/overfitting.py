"""Overfitting: validation loss against training loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.layout import Column
from tuner.report.section import Part, Section
from tuner.report.words import level_labels, measured, percent, printable, short, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, GapEffect

LONGEST_LABEL = 28


def overfitting_section(analysis: Analysis) -> Section | None:
    """The gaps of the complete trials; None for a study that has no losses."""
    gap = analysis.gap
    title = "Overfitting (gap: final validation loss less final training loss)"
    if gap is None:
        if analysis.top.trials and not any(trial.epochs_asked for trial in analysis.top.trials):
            return None
        return Section(title, "no complete trial recorded both a training and a validation loss")
    columns = [Column("trials"), Column("mean"), Column("median")]
    columns += [Column(f"> {shown(entry.threshold)}") for entry in gap.above]
    shares = [percent(entry.share) for entry in gap.above]
    row = (str(gap.trials), measured(gap.mean), measured(gap.median), *shares)
    parts = [Part(tuple(columns), (row,)), *(_part(entry) for entry in gap.parameters)]
    return Section(title, gap_reading(analysis), parts=tuple(parts))


def gap_reading(analysis: Analysis) -> str:
    """Whether the complete trials overfit, and what goes with it."""
    gap = analysis.gap
    assert gap is not None
    if gap.mean == 0:
        text = "validation loss ends level with training loss on average"
    else:
        side = "above" if gap.mean > 0 else "below"
        text = f"validation loss ends {measured(abs(gap.mean))} {side} training loss on average"
    if gap.above:
        widest = gap.above[-1]
        text += f"; {percent(widest.share)} of the trials are more than {shown(widest.threshold)} above"
    of_best = "" if gap.best is None else f"; the best trial's gap is {measured(gap.best)}"
    names = ", ".join(printable(entry.parameter) for entry in gap.parameters)
    return f"{text}{of_best}{f'; a large gap goes with {names}' if names else ''}"


def _part(entry: GapEffect) -> Part:
    labels = level_labels([(level.value, level.low, level.high) for level in entry.levels], entry.log)
    columns = (Column(printable(entry.parameter), words=True), Column("trials"), Column("mean gap"))
    rows = tuple(
        (short(label, LONGEST_LABEL), str(level.trials), measured(mean))
        for label, level, mean in zip(labels, entry.levels, entry.means, strict=True)
    )
    return Part(columns, rows)
