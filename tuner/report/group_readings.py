"""What a comparison of recipes says, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tuner.report.words import UNLIKELY, plural, printable, short, short_names, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Comparison, GroupLevel, Groups

LONGEST_LABEL = 40
MOST_LISTED = 6
AHEAD = {"results": ("better", "best"), "steadiness": ("steadier", "steadiest"), "paths": ("smoother", "smoothest")}
"""What a level that is ahead on a kind of measure is said to be."""


def group_labels(groups: Groups) -> list[str]:
    """A short label for each level, all different: a mapping by its `name` or `file`, a file by its stem, others as
    YAML has them.

    What is no name by itself has the parameter's before it: `heads 2`.
    """
    (parameter,) = short_names([groups.parameter])
    labels = [short(level_label(level, parameter), LONGEST_LABEL) for level in groups.levels]
    twice = {label for label, count in Counter(labels).items() if count > 1}
    return [f"{label} #{place + 1}" if label in twice else label for place, label in enumerate(labels)]


def level_label(level: GroupLevel, parameter: str) -> str:
    """One level's label, which another may have too."""
    value = level.value
    name = value.get("name") or value.get("file") if isinstance(value, Mapping) else value
    if isinstance(name, str):
        return shown(PurePosixPath(name).stem if name.endswith((".csv", ".yaml", ".yml")) else name)
    return f"{parameter} {shown(value)}"


def groups_reading(groups: Groups) -> str:
    """Which level is better on which measure; or that chance may have made every difference; or why none can tell."""
    labels = group_labels(groups)
    if not labels:
        return "no complete trial to compare"
    if len(labels) == 1:
        return f"nothing to compare: all {groups_trials(groups)} have {labels[0]}"
    if not groups.tested:
        return _untested(groups, labels)
    found = [entry for entry in groups.comparisons if entry.p_adjusted is not None and entry.p_adjusted <= UNLIKELY]
    rest = groups.tested - len(found)
    if not found:
        least = min(entry.p_adjusted for entry in groups.comparisons if entry.p_adjusted is not None)
        between = f"{labels[0]} and {labels[1]}" if len(labels) == 2 else f"the {len(labels)} values"
        return f"no difference between {between} can be told from chance (smallest p {least:.2g})"
    said = "; ".join(_differences(found, labels))
    return f"{said}; no difference on {plural(rest, 'other measure')} can be told from chance" if rest else said


def groups_trials(groups: Groups) -> str:
    """`12 complete trials`."""
    return plural(sum(len(level.trials) for level in groups.levels), "complete trial")


def _untested(groups: Groups, labels: Sequence[str]) -> str:
    """Why no measure was tested."""
    counts = [len(level.trials) for level in groups.levels]
    if sum(count >= 3 for count in counts) < 2:
        listed = ", ".join(f"{label}: {count}" for label, count in zip(labels[:8], counts[:8], strict=True))
        more = f" and {plural(len(labels) - 8, 'value')} more" if len(labels) > 8 else ""
        return f"not enough trials to tell: {listed}{more}; 3 of each are needed"
    reasons = Counter(entry.tested.reason for entry in groups.comparisons if entry.tested.reason)
    listed = ", ".join(f"{reason} ({plural(count, 'measure')})" for reason, count in reasons.most_common())
    return f"no difference can be tested: {listed}"


def _differences(found: Sequence[Comparison], labels: Sequence[str]) -> list[str]:
    """What is significant, a clause for each level that is ahead."""
    clauses: dict[str, list[str]] = {}
    for entry in found:
        clauses.setdefault(_clause(entry, labels), []).append(entry.measure)
    return [f"{head} {_listed(names)}" for head, names in clauses.items()]


def _clause(entry: Comparison, labels: Sequence[str]) -> str:
    """`A is better than B on`, or of three levels and more: `the values differ, A being best, on`."""
    means = [(level.mean, label) for level, label in zip(entry.levels, labels, strict=True) if level.mean is not None]
    lowest, highest = min(means)[1], max(means)[1]
    first, second = (lowest, highest) if entry.better == "lower" else (highest, lowest)
    comparative, superlative = AHEAD[entry.kind]
    if len(labels) == 2:
        return f"{first} is {comparative if entry.better else 'higher'} than {second} on"
    if entry.better is None:
        return f"the values differ, {lowest} lowest and {highest} highest, on"
    return f"the values differ, {first} {superlative}, on"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(printable, names[:MOST_LISTED])) + more


def method_lines(groups: Groups) -> list[str]:
    """How the comparison was made: the trials of each level, the tests, and what was left out."""
    labels = group_labels(groups)
    if not labels:
        return _left_out(groups, labels)
    counts = ", ".join(f"{label}: {len(level.trials)}" for label, level in zip(labels, groups.levels, strict=True))
    lines = [f"complete trials: {short(counts, 400)}", "+- is half the 95% confidence interval of the mean (Student t)"]
    if groups.tested:
        tests = dict.fromkeys(entry.tested.test for entry in groups.comparisons if entry.tested.test)
        paired = f" of pairs equal in {_other(groups)}" if groups.paired_by is not None else ""
        lines.append(
            f"p: {' or '.join(map(str, tests))} test{paired}, Holm-adjusted over the {groups.tested} measures tested; "
            f"* at most {UNLIKELY:g}"
        )
        if len(labels) == 2:
            size = "with its interval; g: the same in standard deviations (Hedges)"
            lines.append(f"difference: {labels[0]} less {labels[1]}, {size}")
    return lines + _left_out(groups, labels)


def _left_out(groups: Groups, labels: Sequence[str]) -> list[str]:
    """What is not compared, or not tested, a line each."""
    levels = list(zip(labels, groups.levels, strict=True))
    (parameter,) = short_names([groups.parameter])
    lost = [(level_label(level, parameter), level) for level in groups.lost]
    incomplete = [f"{label}: {level.incomplete}" for label, level in [*levels, *lost] if level.incomplete]
    few = [label for label, level in levels if len(level.trials) < 3]
    same = [f"{name} is {entry.measure}" for entry in groups.comparisons for name in entry.also]
    lines = {
        "not compared, since pruned, diverged or failed:": ", ".join(incomplete),
        "not tested, since without a partner: trial": ", ".join(map(str, groups.unpaired)),
        "not tested, since fewer than 3 trials:": ", ".join(few) if groups.tested else "",
        f"not compared, since without {printable(groups.parameter)}: trials": str(groups.inactive or ""),
        "equal in every trial, so shown once:": ", ".join(map(printable, same)),
    }
    return [f"{head} {short(listed, 200)}" for head, listed in lines.items() if listed]


def _other(groups: Groups) -> str:
    return ", ".join(map(printable, groups.paired_by or ())) or "all else"
