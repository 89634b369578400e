"""Factors: the functions of LambdaLR and MultiplicativeLR, written as expressions in `epoch`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tuner.errors import SearchSpaceError
from tuner.search_space.expression import FUNCTIONS, Expression

NAMES: dict[str, float] = {"epoch": 0, "pi": math.pi}
"""What an expression may use: the scheduler's steps so far, which torch calls epoch, and pi."""

MOST_TRIED = 1_000
"""Steps at which an expression is tried before training; a longer run is tried at as many, evenly spread."""


def factor(text: object, place: str) -> Callable[[int], float]:
    """The function that an expression such as `0.95 ** epoch` says, parsed once.

    Raises `SearchSpaceError` for what is no expression or uses other names; the function does for a value that is
    no finite number of at least 0.
    """
    from simpleeval import SimpleEval

    expression = Expression.parse(text, place)
    expression.check_names(set(NAMES))
    evaluator = SimpleEval(functions=FUNCTIONS, names=dict(NAMES))
    parsed = evaluator.parse(expression.text)

    def value_at(epoch: int) -> float:
        evaluator.names["epoch"] = epoch
        try:
            value = evaluator.eval(expression.text, previously_parsed=parsed)
        except Exception as error:
            rule = f"cannot be computed at epoch {epoch}: {error}"
            raise SearchSpaceError(rule, place=place, value=text) from None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            rule = f"must be a number of at least 0; at epoch {epoch} it is {value!r}"
            raise SearchSpaceError(rule, place=place, value=text)
        return float(value)

    return value_at


def factors(value: Any, place: str, steps: int = 1) -> Any:
    """The function of an expression, or a list of them (one a parameter group), tried over `steps` steps.

    Raises `SearchSpaceError` as `factor` does.
    """
    if isinstance(value, list):
        return [factors(entry, f"{place}[{i}]", steps) for i, entry in enumerate(value)]
    function = factor(value, place)
    for epoch in {0, *range(0, steps, math.ceil(steps / MOST_TRIED))}:
        function(epoch)
    return function
