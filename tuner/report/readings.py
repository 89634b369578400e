"""What the tables say, in a line of words each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.words import level_labels, measured, percent, plural, printable, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Level, ParameterImpact

UNLIKELY = 0.05
"""What happens by chance no more often than this is taken for more than chance."""


def best_reading(analysis: Analysis) -> str:
    """The best trial, named plainly."""
    if analysis.best is None:
        return "no best trial: none is complete with a value"
    return f"best: trial {analysis.best.number}, {printable(analysis.metric)} {measured(analysis.best.value)}"


def gain_reading(analysis: Analysis) -> str | None:
    """The best against the default recipe; None where the default recipe was no trial."""
    gain = analysis.gain
    if gain is None:
        return None
    if gain.value is None or gain.gain is None:
        return f"the default recipe (trial {gain.trial}) has no value to compare with: {gain.state}"
    default = f"the default recipe (trial {gain.trial}, {measured(gain.value)})"
    if gain.gain == 0:
        return f"no better than {default}"
    return f"{measured(abs(gain.gain))} {'better' if gain.gain > 0 else 'worse'} than {default}"


def recorded_beside(analysis: Analysis) -> str:
    """What else was validated at the best trial's best epoch, the losses left out; "" where there is nothing."""
    others = {
        name: value
        for name, value in analysis.recorded.items()
        if name.startswith("val_") and name not in ("val_loss", analysis.metric)
    }
    return ", ".join(f"{printable(name)} {measured(value)}" for name, value in others.items())


def top_reading(analysis: Analysis) -> str:
    """How far apart the top trials are, and what they share."""
    trials, complete = analysis.top.trials, analysis.counts.complete
    if not trials:
        return "none is complete with a value"
    if len(trials) == 1:
        return f"trial {trials[0].number}, of {plural(complete, 'complete trial')}"
    first, last = measured(trials[0].value), measured(trials[-1].value)
    spread = f"all have {first}" if first == last else f"from {first} to {last}"
    return f"the best {len(trials)} of {plural(complete, 'complete trial')}: {spread}"


def impact_reading(analysis: Analysis) -> str:
    """Which parameter matters most for reaching the top trials, or why that cannot be told."""
    impact = analysis.impact
    if not impact.parameters:
        return "no parameter was searched" if analysis.counts.counted else "no trial has ended"
    if impact.reason is not None:
        return impact.reason
    goal = f"reaching the top {impact.top} of {plural(impact.complete, 'complete trial')}"
    first = impact.parameters[0]
    sure = next((entry for entry in impact.parameters if stands_out(entry)), None)
    if sure is None:
        share = f"{printable(first.parameter)} comes first ({_share(first)}), as one may by chance"
        return f"no parameter stands out for {goal}; {share}"
    matters = "matters most" if sure is first and len(impact.parameters) > 1 else "matters"
    text = f"{printable(sure.parameter)} {matters} for {goal} ({_share(sure)})"
    best = best_level_reading(sure, analysis)
    return f"{text}; {best}" if best else text


def _share(entry: ParameterImpact) -> str:
    return f"{entry.importance or 0.0:.2f} of all importance"


def stands_out(entry: ParameterImpact) -> bool:
    """Whether a parameter is more important than chance would have it."""
    return entry.by_chance is not None and entry.by_chance <= UNLIKELY


def best_level(entry: ParameterImpact, analysis: Analysis) -> Level | None:
    """The level with the best mean; None unless two levels have the two complete trials a mean needs."""
    levels = [level for level in entry.levels if level.complete >= 2 and level.mean is not None]
    if len(levels) < 2:
        return None
    choose = max if analysis.direction == "maximize" else min
    return choose(levels, key=lambda level: level.mean or 0.0)


def best_level_reading(entry: ParameterImpact, analysis: Analysis) -> str | None:
    """`best mean at 64`, `best mean between 1.0e-03 and 3.2e-03`; None where no level stands for the best."""
    best = best_level(entry, analysis)
    if best is None:
        return None
    label = labels(entry)[entry.levels.index(best)]
    if best.is_range and " to " in label:
        return "best mean between " + label.replace(" to ", " and ")
    return f"best mean at {label}"


def labels(entry: ParameterImpact) -> list[str]:
    """A short label for each level of a parameter, in order."""
    return level_labels([(level.value, level.low, level.high) for level in entry.levels], entry.log)


def gap_reading(analysis: Analysis) -> str:
    """Whether the complete trials overfit."""
    gap = analysis.gap
    if gap is None:
        return "no complete trial recorded both a training and a validation loss"
    if gap.mean == 0:
        text = "validation loss ends level with training loss on average"
    else:
        side = "above" if gap.mean > 0 else "below"
        text = f"validation loss ends {measured(abs(gap.mean))} {side} training loss on average"
    widest = gap.above[-1]
    best = analysis.best.gap if analysis.best else None
    of_best = "" if best is None else f"; the best trial's gap is {measured(best)}"
    share = f"{percent(widest.share)} of the trials are more than {shown(widest.threshold)} above"
    return f"{text}; {share}{of_best}"


def trials_reading(analysis: Analysis) -> str:
    """`38 of 200 trials: 24 complete, 9 pruned`: what counts towards the budget."""
    counts, asked = analysis.counts, analysis.budget.get("trials")
    done = f"{counts.counted} of {plural(asked, 'trial')}" if asked else plural(counts.counted, "trial")
    states = ("complete", "pruned", "diverged", "failed")
    parts = [f"{getattr(counts, state)} {state}" for state in states if getattr(counts, state)]
    return f"{done}: {', '.join(parts)}" if parts else done


def uncounted_reading(analysis: Analysis) -> str | None:
    """The trials beside the budget and those not ended yet; None where there are none."""
    counts = analysis.counts
    states = ("infeasible", "duplicate", "running", "waiting")
    return ", ".join(f"{getattr(counts, state)} {state}" for state in states if getattr(counts, state)) or None
