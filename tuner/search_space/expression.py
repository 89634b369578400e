"""Derived values and constraints: small expressions over a recipe's values, evaluated by simpleeval."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tuner.errors import SearchSpaceError, did_you_mean

LONGEST = 1_000
"""Characters that an expression may have."""

FUNCTIONS = {
    "min": min, "max": max, "abs": abs, "round": round, "int": int, "float": float,
    "sqrt": math.sqrt, "log": math.log, "log2": math.log2, "log10": math.log10, "exp": math.exp,
    "floor": math.floor, "ceil": math.ceil, "sin": math.sin, "cos": math.cos,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """An expression such as `model.heads * model.head_dim <= 256`, and the place it is written at."""

    text: str
    place: str

    @classmethod
    def parse(cls, text: object, place: str) -> Expression:
        """Check that `text` is an expression; `SearchSpaceError` otherwise."""
        if not isinstance(text, (str, int, float)) or isinstance(text, bool):
            raise SearchSpaceError("must be an expression", place=place, value=text)
        expression = cls(str(text), place)
        expression.names()
        return expression

    def names(self) -> list[str]:
        """The dotted names in it, in order, functions left out."""
        if len(self.text) > LONGEST:
            raise SearchSpaceError(f"is longer than {LONGEST} characters", place=self.place, value=self.text)
        try:
            tree = ast.parse(self.text, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            why = error.msg.partition(".")[0] if isinstance(error, SyntaxError) else str(error) or "too deep"
            hint = "To compare, write '=='." if re.search(r"[^=!<>]=[^=]", self.text) else ""
            raise SearchSpaceError(f"not an expression: {why}", place=self.place, value=self.text, hint=hint) from None
        self._check_functions(tree)
        names: list[str] = []
        _collect(tree.body, names)
        return names

    def _check_functions(self, tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
                raise SearchSpaceError(
                    f"there is no function '{node.func.id}'",
                    place=self.place,
                    value=self.text,
                    hint=did_you_mean(node.func.id, FUNCTIONS),
                )

    def check_names(self, known: Mapping[str, Any] | set[str]) -> None:
        """Raise `SearchSpaceError` for a name that is not `known`."""
        for name in self.names():
            if name not in known:
                raise SearchSpaceError(
                    f"there is no value '{name}'",
                    place=self.place,
                    value=self.text,
                    hint=did_you_mean(name, known),
                )

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Its value over `values` by dotted path.

        Raises `SearchSpaceError` for a missing name and for what cannot be computed.
        """
        from simpleeval import SimpleEval

        self.check_names(values)
        try:
            return SimpleEval(functions=FUNCTIONS, names=_namespace(values)).eval(self.text)
        except Exception as error:
            raise SearchSpaceError(f"cannot be computed: {error}", place=self.place, value=self.text) from None


def _collect(node: ast.AST, names: list[str]) -> None:
    """Append the dotted names below `node`; a function's own name is not one."""
    name = _dotted(node)
    if name is not None:
        names.append(name)
        return
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            _collect(node.func, names)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            _collect(argument, names)
        return
    for child in ast.iter_child_nodes(node):
        _collect(child, names)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _namespace(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{'model.heads': 4, 'epochs': 3}` as `{'model': <heads=4>, 'epochs': 3}`."""
    sections: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for path, value in values.items():
        section, _, name = path.partition(".")
        if name:
            sections.setdefault(section, {})[name] = value
        else:
            plain[section] = value
    return plain | {section: SimpleNamespace(**entries) for section, entries in sections.items()}
