"""Impact of each parameter: its importance, and what each of its values gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.layout import Column
from tuner.report.section import Part, Section, table
from tuner.report.words import level_labels, measured, percent, plural, printable, short

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Level, ParameterImpact

MOST_LEVELS = 12
LONGEST_LABEL = 28
FEWEST = 2
"""Complete trials that the mean of a level needs to be compared with others."""

BAR = 8
"""Characters of the longest bar."""


def impact_section(analysis: Analysis) -> Section:
    """Every parameter that was tried with several values, most important first."""
    several = [entry for entry in analysis.impact.parameters if len(entry.levels) > 1]
    single = [entry for entry in analysis.impact.parameters if len(entry.levels) == 1]
    facts, notes = [], []
    if several and analysis.counts.complete < analysis.counts.trained:
        facts.append(("", "mean and best are over complete trials, shares over all that count"))
    for group in analysis.impact.together:
        names = " and ".join(printable(name) for name in group)
        notes.append(f"{names} changed together in all trials: what one does cannot be told from the other")
    if single:
        values = ", ".join(f"{printable(entry.parameter)} {labels(entry)[0]}" for entry in single)
        notes.append(f"tried with one value only: {values}")
    parts = tuple(_part(entry, analysis) for entry in several)
    return Section("Impact of each parameter", impact_reading(analysis), tuple(facts), parts, tuple(notes))


def impact_reading(analysis: Analysis) -> str:
    """Which parameters matter, the most important first, or why that cannot be told."""
    impact = analysis.impact
    if not impact.parameters:
        return "no parameter was searched" if analysis.counts.trained else "no trial has ended"
    sure = [entry for entry in impact.parameters if entry.sure]
    if impact.reason is not None:
        names = ", ".join(f"{printable(entry.parameter)} (p {entry.p:.2g})" for entry in sure)
        matter = f"{names} {'matters' if len(sure) == 1 else 'matter'}, how much cannot be told: " if sure else ""
        return f"{matter}{impact.reason}"
    goal = (
        "the values' differences (exact ANOVA of the grid)"
        if impact.method == "anova"
        else f"reaching the top {impact.top} of {plural(impact.complete, 'complete trial')}"
    )
    if not sure:
        first = impact.parameters[0]
        share = f"{printable(first.parameter)} comes first ({_share(first)}), as one may by chance"
        pairs = [
            f"{printable(pair.first)} x {printable(pair.second)}" for pair in analysis.interactions.pairs if pair.sure
        ]
        if pairs:
            return (
                f"no parameter stands out by itself for {goal}, but {', '.join(pairs)} act together (see Interactions)"
            )
        return f"no parameter stands out for {goal}; {share}"
    first, rest = sure[0], sure[1:]
    several = len(impact.parameters) > 1
    most = max(impact.parameters, key=lambda entry: entry.importance or 0.0)
    how = "surely matters" if most is not first else "matters most" if several else "matters"
    text = f"{printable(first.parameter)} {how} for {goal} ({_share(first)})"
    best = best_level_reading(first, analysis)
    others = ", ".join(printable(entry.parameter) for entry in rest)
    also = f"; {others} {'matters' if len(rest) == 1 else 'matter'}, too" if rest else ""
    return f"{text}{f'; {best}' if best else ''}{also}"


def _share(entry: ParameterImpact) -> str:
    return f"{entry.importance or 0.0:.2f} of all importance"


def best_level(entry: ParameterImpact, analysis: Analysis) -> Level | None:
    """The level with the best mean; None where not two levels have the trials that a mean needs, or all are equal."""
    levels = [level for level in entry.levels if level.complete >= FEWEST and level.mean is not None]
    if len(levels) < 2:
        return None
    if len({level.mean for level in levels}) == 1:
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


def impact_unknown(analysis: Analysis) -> str:
    """Why it cannot be told whether a parameter matters."""
    same = analysis.spread is not None and analysis.spread.trials > 1 and analysis.spread.deviation == 0
    return "all values are the same" if same else "not enough trials to tell"


def labels(entry: ParameterImpact) -> list[str]:
    """A short label for each level of a parameter, in order."""
    return level_labels([(level.value, level.low, level.high) for level in entry.levels], entry.log)


def _part(entry: ParameterImpact, analysis: Analysis) -> Part:
    """A parameter's importance and best level in a line, then what each of its levels gave."""
    facts = []
    if entry.importance is not None:
        interval = "" if entry.low is None or entry.high is None else f" ({entry.low:.2f} to {entry.high:.2f})"
        facts.append(f"importance {entry.importance:.2f}{interval}{'' if entry.sure else ' (maybe chance)'}")
    elif entry.p is None:
        facts.append(impact_unknown(analysis))
    if entry.trials < analysis.counts.trained:
        facts.append(f"active in {entry.trials} of {plural(analysis.counts.trained, 'trial')}")
    best = best_level_reading(entry, analysis)
    facts += [best] if best else []
    title = f"{printable(entry.parameter)}{': ' if facts else ''}{', '.join(facts)}"
    levels = _most_tried(entry.levels)
    rest = len(entry.levels) - len(levels)
    chosen = best_level(entry, analysis)
    texts = dict(zip(map(id, entry.levels), labels(entry), strict=True))
    return table(
        [
            (Column("", words=True), [short(texts[id(level)], LONGEST_LABEL) for level in levels]),
            (Column("trials"), [str(level.trials) for level in levels]),
            (Column("mean"), [measured(level.mean) for level in levels]),
            (Column("best"), [measured(level.best) for level in levels]),
            (Column("complete", dropped=4), [percent(level.share_complete) for level in levels]),
            (Column("pruned", dropped=3), [percent(level.share_pruned) for level in levels]),
            (Column("diverged", dropped=1), [percent(level.share_diverged) for level in levels]),
            (Column("failed", dropped=2), [percent(level.share_failed) for level in levels]),
            (Column("", words=True, dropped=5), bars(levels, analysis.direction == "maximize")),
        ],
        title=title,
        bold=levels.index(chosen) if chosen in levels else None,
        below=(f"and {plural(rest, 'value')} more, tried less often",) if rest else (),
    )


def bars(levels: list[Level], maximize: bool) -> list[str]:
    """A bar for each level's mean, the longest for the best of them, none for the worst or of too few trials."""
    means = [level.mean if level.complete >= FEWEST else None for level in levels]
    known = [mean for mean in means if mean is not None]
    if len(known) < 2 or min(known) == max(known):
        return ["" for _ in means]
    worst, best = (min(known), max(known)) if maximize else (max(known), min(known))
    return [
        "" if mean is None else "#" * round(BAR * ((mean / 2 - worst / 2) / (best / 2 - worst / 2))) for mean in means
    ]


def _most_tried(levels: tuple[Level, ...]) -> list[Level]:
    """At most `MOST_LEVELS` levels, those with the most trials, in their order."""
    ranked = sorted(range(len(levels)), key=lambda place: -levels[place].trials)
    return [levels[place] for place in sorted(ranked[:MOST_LEVELS])]
