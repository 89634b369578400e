"""Summary: the best trial, how trials ended, how long they took, and how their values spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.report.expected import standing_reading
from tuner.report.section import Section
from tuner.report.words import duration, measured, plural, printable, short, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis

MOST_REASONS = 8


def summary_section(analysis: Analysis) -> Section:
    """The best trial named, and the facts of the study."""
    return Section("Summary", best_reading(analysis), tuple(_facts(analysis)))


def best_reading(analysis: Analysis) -> str:
    """The best trial, named plainly."""
    if analysis.best is None:
        return "no best trial: none is complete with a value"
    return f"best: trial {analysis.best.number}, {printable(analysis.metric)} {measured(analysis.best.value)}"


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    rows = [("study", printable(analysis.name))]
    if analysis.task:
        rows.append(("task", printable(f"{analysis.task}{f', mode {analysis.mode}' if analysis.mode else ''}")))
    epochs = any(trial.epochs_asked for trial in analysis.top.trials)
    words = {"best": ", each trial's best epoch", "last": ", each trial's last epoch"}
    epoch = words.get(analysis.value or "", "") if epochs else ""
    rows.append(("metric", printable(f"{analysis.metric}, {analysis.direction}{epoch}")))
    if analysis.best and analysis.best.parameters:
        rows.append(("best has", parameters(analysis.best.parameters)))
    optional = [
        ("gain", gain_reading(analysis)),
        ("recorded", recorded_beside(analysis)),
        ("expected", None if analysis.expect is None else standing_reading(analysis.expect)),
        ("values", spread_reading(analysis)),
        ("trials", trials_reading(analysis)),
        ("taken over", earlier_reading(analysis)),
        ("not counted", uncounted_reading(analysis)),
        ("training", time_reading(analysis)),
        ("reasons", reasons_reading(analysis)),
    ]
    return rows + [(name, text) for name, text in optional if text]


def parameters(values: dict[str, Any]) -> str:
    """Parameters as `--set` takes them: `learning_rate=0.003162 model.heads=4`."""
    return " ".join(f"{printable(name)}={short(shown(value), 60)}" for name, value in values.items())


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


def spread_reading(analysis: Analysis) -> str | None:
    """Mean, median, deviation and quartiles; None with fewer than two complete trials."""
    spread = analysis.spread
    if spread is None or spread.deviation is None:
        return None
    quartiles = f"quartiles {measured(spread.first_quartile)} and {measured(spread.third_quartile)}"
    return (
        f"mean {measured(spread.mean)}, median {measured(spread.median)}, "
        f"standard deviation {measured(spread.deviation)}, {quartiles}"
    )


def trials_reading(analysis: Analysis) -> str:
    """`38 of 200 trials: 24 complete, 9 pruned`: what counts towards the budget."""
    counts, asked = analysis.counts, analysis.budget.get("trials")
    done = f"{counts.counted} of {plural(asked, 'trial')}" if asked else plural(counts.counted, "trial")
    states = ("complete", "pruned", "diverged", "failed")
    parts = [f"{counts.here(state)} {state}" for state in states if counts.here(state)]
    return f"{done}: {', '.join(parts)}" if parts else done


def uncounted_reading(analysis: Analysis) -> str | None:
    """The trials beside the budget and those not ended yet; None where there are none."""
    counts = analysis.counts
    states = ("infeasible", "duplicate", "running", "waiting")
    return ", ".join(f"{getattr(counts, state)} {state}" for state in states if getattr(counts, state)) or None


def earlier_reading(analysis: Analysis) -> str | None:
    """How many trials another study gave, and which one; None where none did."""
    number = sum(analysis.counts.earlier.values())
    if analysis.warm_start is None or not number:
        return None
    diverged = analysis.counts.earlier.get("diverged", 0)
    also = f", {diverged} of them diverged" if diverged else ""
    return f"{plural(number, 'trial')} from {printable(analysis.warm_start)}{also}"


def time_reading(analysis: Analysis) -> str | None:
    """Training time in all, and of a trial."""
    if analysis.total_seconds is None or analysis.seconds_per_trial is None:
        return None
    return f"{duration(analysis.total_seconds)} in all, {duration(analysis.seconds_per_trial)} a trial"


def reasons_reading(analysis: Analysis) -> str:
    """Why trials ended, one reason a line."""
    reasons = analysis.counts.reasons
    lines = [f"{entry.trials} x {short(printable(entry.text), 100)}" for entry in reasons[:MOST_REASONS]]
    rest = len(reasons) - MOST_REASONS
    return "\n".join([*lines, *([f"and {plural(rest, 'reason')} more"] if rest > 0 else [])])
