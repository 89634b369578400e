"""Early stopping and pruning: how many runs were cut, when, what it saved, and whether it was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.section import Section
from tuner.report.words import plural

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Cuts, Ends


def ends_section(analysis: Analysis) -> Section | None:
    """How runs ended; None for a study without epochs or pruning."""
    ends = analysis.ends
    if not (ends.whole or ends.stopped.trials or ends.pruned.trials):
        return None
    facts = [("early stopping", _cut(ends.stopped, "stopped")), ("pruning", _cut(ends.pruned, "pruned"))]
    if ends.pruned.trials:
        facts.append(("still improving", f"{ends.improving} of the pruned had their best value in their last report"))
    if ends.agreement is not None:
        facts.append(
            (
                f"at epoch {ends.at}",
                f"values there go with final ones at a rank correlation of {ends.agreement:.2f}{_as_low(ends)}",
            )
        )
    return Section("Early stopping and pruning", ends_reading(analysis), tuple(facts))


def _as_low(ends: Ends) -> str:
    """How many that stood as low as the pruned ones ended well; "" where none stood so low."""
    if not ends.low:
        return ""
    stood = f"complete trial{'s' if ends.low > 1 else ''} that stood as low as the pruned"
    return f"; of {ends.low} {stood}, {ends.late} ended in the best quarter"


def ends_reading(analysis: Analysis) -> str:
    """How many runs were whole, and whether pruning can be trusted."""
    ends = analysis.ends
    cut = ends.stopped.trials + ends.pruned.trials
    if not cut:
        return f"none: {plural(ends.whole, 'complete trial')} trained all epochs"
    saved = (ends.stopped.saved or 0) + (ends.pruned.saved or 0)
    text = f"{plural(cut, 'run')} cut short{f', {saved} epochs saved' if saved else ''}"
    if ends.agreement is None:
        return text
    trust = "early values tell final ones well" if ends.agreement >= 0.7 else "early values tell final ones roughly"
    if ends.agreement < 0.3:
        sure = (ends.agreement_most or 0.0) < 0.3
        trust = "early values hardly tell final ones" if sure else "too few trials to say what early values tell"
    return f"{text}; {trust}"


def _cut(cuts: Cuts, word: str) -> str:
    if not cuts.trials:
        return f"no trial was {word}"
    text = f"{plural(cuts.trials, 'trial')} {word}"
    if cuts.median is not None:
        text += f" at epoch {cuts.median:g} (quartiles {cuts.first_quarter:g} and {cuts.third_quarter:g})"
    return text if cuts.saved is None else f"{text}, {cuts.saved} epochs saved"
