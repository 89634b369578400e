"""Confirmation: what it says in words, then each setting over fresh seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.groups import chance, interval
from tuner.report.layout import Column
from tuner.report.section import Part, Section
from tuner.report.words import NOTHING, UNLIKELY, measured, p_value, plural, printable

if TYPE_CHECKING:  # importing it would bring Optuna, which a command's start does without
    from tuner.analysis import Analysis
    from tuner.analysis.confirmation import Candidate, Confirmation, SeedRun
    from tuner.analysis.significance import LevelMean

P = "p: paired t over seeds against the winner, adjusted for all pairs of settings (Holm)"


def confirmation_section(found: Confirmation) -> Section:
    """The reading, then a row a setting, the best in the search first and the winner set off."""
    rows = tuple(tuple(_row(entry, found)) for entry in found.candidates)
    winner = next((at for at, entry in enumerate(found.candidates) if entry.trial == found.winner), None)
    part = Part(tuple(_columns(found)), rows, title=printable(found.metric), bold=winner)
    reading = "\n".join(confirmation_reading(found))
    about = tuple(("", line) for line in _method(found))
    return Section(f"Confirmation of {printable(found.study)}", reading, about, (part,) if rows else ())


def _method(found: Confirmation) -> list[str]:
    """What the columns are: of those that hold anything."""
    split = "validation" if found.test_metric is None else "validation and test"
    means = f"{split}: means over fresh seeds with their 95% intervals; the winner is chosen on validation alone"
    tested = any(entry.p_adjusted is not None for entry in found.candidates)
    return [means, P] if tested else [means]


def confirmed_section(analysis: Analysis) -> Section | None:
    """The confirmation of an analysed study; None where there is none."""
    return None if analysis.confirmed is None else confirmation_section(analysis.confirmed)


def _columns(found: Confirmation) -> list[Column]:
    test = [] if found.test_metric is None else [Column("test"), Column("test optimism", dropped=2)]
    columns = [Column("trial"), Column("in the search"), Column("seeds", dropped=1), Column("validation"), *test]
    return [*columns, Column("optimism"), Column("behind the winner", dropped=3), Column("p")]


def _row(entry: Candidate, found: Confirmation) -> list[str]:
    test = [] if found.test_metric is None else [_mean(entry.test), _signed(entry.test_optimism)]
    cells = [str(entry.trial), measured(entry.searched), _seeds(entry), _mean(entry.validation), *test]
    against = entry.against_winner
    behind = NOTHING
    if against is not None and against.difference is not None:
        behind = f"{against.difference if found.direction == 'maximize' else -against.difference:.2g}"
    p = "winner" if entry.trial == found.winner else chance(entry.p_adjusted)
    return [*cells, _signed(entry.optimism), behind, p]


def _seeds(entry: Candidate) -> str:
    """How many seeds gave a value, of how many."""
    done, of = entry.validation.trials, len(entry.runs)
    return str(done) if done == of else f"{done} of {of}"


def _mean(mean: LevelMean) -> str:
    return interval(mean.mean, mean.low, mean.high)


def _signed(number: float | None) -> str:
    """`+0.011`: the difference of means, which are no surer than that."""
    return NOTHING if number is None else f"{number:+.2g}"


def confirmation_reading(found: Confirmation) -> list[str]:
    """What a confirmation says, a sentence or two each: what the best is worth, what wins, what ties, what is amiss."""
    sentences = [_first_reading(found), _winner_reading(found), _average_reading(found), _split_reading(found)]
    sentences += [_amiss(entry) for entry in found.candidates if entry.ended_otherwise]
    if found.unfinished:
        again = f"tuner confirm {printable(found.study)}"
        sentences.append(f"{plural(found.unfinished, 'run')} still to be trained: {again}.")
    return [sentence for sentence in sentences if sentence]


def _first_reading(found: Confirmation) -> str:
    """What the best of the search is worth, and by how much the search was too optimistic."""
    if not found.candidates:
        return "Nothing is confirmed yet."
    best = found.candidates[0]
    head = f"Trial {best.trial} had {printable(found.metric)} {measured(best.searched)} in the search"
    if best.optimism is None:
        return f"{head}; it has no value over fresh seeds."
    return f"{head}; over {plural(best.validation.trials, 'fresh seed')} it has {_splits(best)}: {_promised(best)}."


def _splits(entry: Candidate) -> str:
    """`0.9731 +- 0.006 on validation and 0.9690 +- 0.007 on the test split`."""
    test = "" if entry.test.mean is None else f" and {_mean(entry.test)} on the test split"
    return f"{_mean(entry.validation)} on validation{test}"


def _promised(entry: Candidate) -> str:
    """By how much the search said too much."""
    said = f"the search was {_by_how_much(entry.optimism or 0.0)}"
    if entry.test_optimism is None:
        return said
    return f"{said} for validation, and {_by_how_much(entry.test_optimism)} for the test split"


def _by_how_much(optimism: float) -> str:
    if not optimism:
        return "right"
    return f"{abs(optimism):.2g} too {'optimistic' if optimism > 0 else 'modest'}"


def _winner_reading(found: Confirmation) -> str:
    """Which setting is the best over fresh seeds, and what cannot be told from it."""
    winner = found.candidate(found.winner)
    if winner is None or len(found.candidates) == 1:
        return ""
    if winner is found.candidates[0]:
        head = "It stays the best over fresh seeds"
    else:
        head = f"The best over fresh seeds is trial {winner.trial}, {_splits(winner)}"
        head += f" ({measured(winner.searched)} in the search)"
    others = [entry for entry in found.candidates if entry is not winner]
    worse = [entry for entry in others if entry.p_adjusted is not None and entry.p_adjusted <= UNLIKELY]
    near = [entry for entry in others if entry.p_adjusted is not None and entry.p_adjusted > UNLIKELY]
    untested = [entry for entry in others if entry.p_adjusted is None]
    said = [f"{_named(worse)} {'is' if len(worse) == 1 else 'are'} worse ({_chances(worse)})"] if worse else []
    said += [f"{_named(near)} cannot be told from it ({_chances(near)})"] if near else []
    said += [f"{_named(untested)} {_untested(untested)}"] if untested else []
    return f"{head}. {_capital('; '.join(said))}."


def _untested(entries: list[Candidate]) -> str:
    """Why there is no p-value."""
    reasons = {entry.against_winner.reason for entry in entries if entry.against_winner is not None}
    few = "not enough seeds to tell" if reasons == {"not enough trials to tell"} else "; ".join(map(str, reasons))
    return f"{'was' if len(entries) == 1 else 'were'} not tested: {few or 'no value over fresh seeds'}"


def _named(entries: list[Candidate]) -> str:
    """`trial 3`, `trials 3 and 7`, `trials 3, 5 and 7`."""
    numbers = [str(entry.trial) for entry in entries]
    listed = " and ".join([", ".join(numbers[:-1]), numbers[-1]]) if len(numbers) > 1 else numbers[0]
    return f"trial{'s' if len(numbers) > 1 else ''} {listed}"


def _chances(entries: list[Candidate]) -> str:
    """`p 0.41`, or from the least to the greatest."""
    found = sorted(entry.p_adjusted for entry in entries if entry.p_adjusted is not None)
    ends = [p_value(p) for p in (found[0], found[-1])]
    return f"p {ends[0]}" if ends[0] == ends[1] else f"p {ends[0]} to {ends[1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _average_reading(found: Confirmation) -> str:
    """The optimism over all candidates."""
    if found.optimism is None or len(found.candidates) < 2:
        return ""
    test = "" if found.test_optimism is None else f", {_signed(found.test_optimism)} for the test split"
    many = plural(len(found.candidates), "setting")
    return f"Optimism of the search over the {many}, on average: {_signed(found.optimism)} for validation{test}."


def _split_reading(found: Confirmation) -> str:
    if found.test_metric is not None or found.winner is None:
        return ""
    return "There is no test split for this data: all of this is on validation, by which the search chose."


def _amiss(entry: Candidate) -> str:
    """`Trial 4 diverged with 1 of 5 seeds (1002).`"""
    by_state: dict[str, list[SeedRun]] = {}
    for run in entry.ended_otherwise:
        by_state.setdefault(run.state, []).append(run)
    said = [
        f"{'was pruned' if state == 'pruned' else state} with {len(runs)} of {plural(len(entry.runs), 'seed')} "
        f"({', '.join(str(run.seed) for run in runs)})"
        for state, runs in by_state.items()
    ]
    return f"Trial {entry.trial} {' and '.join(said)}; its means are over the others."
