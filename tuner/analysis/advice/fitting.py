"""Overfitting, pruning that goes by chance, and too few trials to tell."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.analysis.advice.findings import Advice, Change, Findings
from tuner.analysis.advice.ranges import TRIALS_A_PARAMETER
from tuner.analysis.confirmation import CONFIRMS
from tuner.analysis.trials import cells, differ

LARGE_GAP, LARGE_SHARE = 0.05, 0.2
"""A best trial's gap is large from this on, and from this share of its validation loss on."""

FEWEST_TO_MISS, MOST_PRUNED = 20, 0.8
"""Of so many trials, complete ones are missed where more than this share is pruned."""

LOOSE = 0.3
"""Where the rank correlation is below this with 95 % confidence, early values say little of final ones."""


def overfits(findings: Findings) -> Iterator[Advice]:
    """The best trial's validation loss ends far above its training loss."""
    gap = findings.gap
    if gap is None or gap.best is None or gap.relative is None or gap.best < LARGE_GAP or gap.relative < LARGE_SHARE:
        return
    means = []
    if "optimizer_kwargs.weight_decay" not in findings.data.columns:
        means.append("weight decay (AdamW)")
    means += [] if any("dropout" in name for name in findings.data.columns) else ["dropout"]
    means += ["more data or augmentation", "a smaller model"]
    with_it = ""
    if gap.parameters:
        entry = gap.parameters[0]
        if (entry.levels and entry.levels[0].low is not None) or isinstance(entry.levels[0].value, (int, float)):
            side = "higher" if entry.means[-1] > entry.means[0] else "lower"
            with_it = f"; the gap is larger at {side} {entry.parameter}"
        else:
            with_it = f"; the gap goes with {entry.parameter}"
    yield Advice(
        "overfits",
        None,
        f"reduce overfitting: {', '.join(means)}",
        f"the best trial ends with a validation loss {gap.best:.3g} above its training loss, {gap.relative:.0%} of "
        f"the validation loss{with_it}",
        {"gap": gap.best, "relative": gap.relative, "parameters": [entry.parameter for entry in gap.parameters]},
    )


def gentler_pruning(findings: Findings) -> Iterator[Advice]:
    """Trials were pruned at an epoch whose values say little of the final ones."""
    ends = findings.ends
    if ends.agreement is None or ends.agreement_most is None or ends.agreement_most >= LOOSE or ends.pruned.trials < 5:
        return
    yield Advice(
        "prune_later",
        None,
        f"prune later than epoch {ends.at}",
        f"among the trials that went on, values at epoch {ends.at}, where the median trial was pruned, hardly go with "
        f"final ones (rank correlation {ends.agreement:.2f}, at most {ends.agreement_most:.2f} with 95% confidence); "
        f"{ends.late} of the {ends.low} complete trials that stood as low "
        "there ended in the best quarter",
        {
            "epoch": ends.at,
            "agreement": ends.agreement,
            "most": ends.agreement_most,
            "late": ends.late,
            "low": ends.low,
        },
    )


def less_pruning(findings: Findings) -> Iterator[Advice]:
    """Nearly all trials were pruned, and too few are complete to tell whether the right ones were."""
    pruned, complete = findings.ends.pruned.trials, len(findings.data.complete)
    trials = pruned + complete
    if findings.ends.agreement is not None or trials < FEWEST_TO_MISS or pruned < MOST_PRUNED * trials:
        return
    ended = f"the {complete} complete ones are" if complete > 1 else f"{complete or 'none'} complete is"
    yield Advice(
        "prune_less",
        None,
        "let more trials end: a pruner that begins later (pruner_kwargs), or another one",
        f"{pruned} of {trials} trials were pruned, and {ended} too few to tell whether the right ones were",
        {"pruned": pruned, "complete": complete},
    )


def no_effect(findings: Findings) -> Iterator[Advice]:
    """Nothing that was searched matters more than chance, in as many trials as should tell."""
    model, trials = findings.model, len(findings.scores)
    if model.found or model.joined or not model.effects or any(map(findings.tells, findings.data.columns)):
        return
    if trials < TRIALS_A_PARAMETER * len(model.effects):
        return
    yield Advice(
        "no_effect",
        None,
        "search something else: other parameters, or wider ranges; or repeat settings over seeds to see the noise",
        f"in {trials} trials no parameter's effect can be told from chance",
        {"trials": trials, "parameters": len(model.effects)},
    )


def more_trials(findings: Findings) -> Iterator[Advice]:
    """There are too few trials for so many parameters."""
    trained, data = findings.data.trained, findings.data
    trials, failed = len(trained), int((trained["state"] == "failed").sum())
    count = sum(trials == 1 or differ(cells(trained, column)) for column in data.columns.values())
    if not count or trials >= TRIALS_A_PARAMETER * count or failed == trials:
        return
    if data.space.get("sampler") == "grid" or CONFIRMS in data.records.attributes:
        return
    needed = TRIALS_A_PARAMETER * count - int((~trained["counted"]).sum())  # what was taken over counts towards none
    trials_are = "trials are few" if trials > 1 else "trial is little"
    parameters = f"{count} parameters" if count > 1 else "a parameter"
    yield Advice(
        "more_trials",
        None,
        f"go on to {needed} trials or more",
        f"{trials} {trials_are} for {parameters}: about {TRIALS_A_PARAMETER} for each tell what it does",
        {"trials": trials, "parameters": count, "needed": needed},
        Change(trials=needed),
    )
