"""docs/analysis-files.md has every key of `tuner analyze --json`, and no other: a change of one is a change of both."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from tuner.analysis import Analysis, StudyData
from tuner.analysis.several import Several, compare_studies
from tuner.report.as_json import SCHEMA, several_json
from tuner.storage.reading import records_of

PAGE = (Path(__file__).parents[2] / "docs" / "analysis-files.md").read_text()
SECTIONS = {
    title: dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", body, re.MULTILINE))
    for title, body in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
COMPUTED = {"Counts": {"total": int, "counted": int}}
"""Keys that are no fields."""

WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any"}


def fields_of(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, vars(sys.modules[kind.__module__]))
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)} | COMPUTED.get(kind.__name__, {})


def parts(hint: Any) -> Iterator[type]:
    """The dataclasses within a type."""
    if dataclasses.is_dataclass(hint):
        yield hint  # type: ignore[misc]
    for inner in typing.get_args(hint):
        yield from parts(inner)


def reached(*roots: type) -> dict[str, type]:
    found: dict[str, type] = {}
    waiting = [*roots]
    while waiting:
        kind = waiting.pop()
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            waiting += [part for hint in fields_of(kind).values() for part in parts(hint)]
        assert found[kind.__name__] is kind, f"two classes are named {kind.__name__}"
    return found


KINDS = reached(Analysis, Several)


def in_words(hint: Any) -> str:
    """A type as the page has it."""
    if hint in WORDS:
        return WORDS[hint]
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"  # type: ignore[union-attr]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        names = [in_words(entry) for entry in inner if entry is not type(None)]
        return " or ".join([*names, "null"] if type(None) in inner else names)
    if origin is typing.Literal:
        return ", ".join(f"`{entry}`" for entry in inner)
    if origin is tuple:
        return f"list of {in_words(inner[0])}" if inner[-1] is ... else f"list of {len(inner)}: {in_words(inner[0])}"
    assert issubclass(origin, Mapping), hint
    return f"object of {in_words(inner[1])}"


def test_every_object_of_the_json_is_documented_and_no_other() -> None:
    assert set(SECTIONS) == set(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_key_is_documented_with_its_type_and_every_documented_key_exists(name: str) -> None:
    assert SECTIONS[name] == {key: in_words(hint) for key, hint in fields_of(KINDS[name]).items()}


def test_the_schemas_number_is_documented() -> None:
    assert f'`"schema": {SCHEMA}`' in PAGE


def study(name: str) -> StudyData:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(study_name=name)
    kinds = {"kind": CategoricalDistribution(["a", "b"]), "rate": FloatDistribution(0, 1)}
    for number in range(24):
        attrs = {"gap": 0.1, "final_val_loss": 0.4, "epochs_asked": 5, "epochs_done": 5, "best_epoch": 5}
        params = {"kind": "ab"[number % 2], "rate": (number * 7 % 24) / 24}
        value = params["rate"] + (number % 2)
        made.add_trial(create_trial(value=value, params=params, distributions=kinds, user_attrs=attrs))
    made.add_trial(create_trial(state=optuna.trial.TrialState.PRUNED, params=params, distributions=kinds))
    return StudyData(records_of(made))


def check(found: Any, hint: Any, place: str, met: set[str]) -> None:
    """Whether a value of the JSON is what its type says; `met` collects the objects."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        if found is not None:
            check(found, next(entry for entry in inner if entry is not type(None)), place, met)
    elif dataclasses.is_dataclass(hint):
        met.add(hint.__name__)  # type: ignore[union-attr]
        fields = fields_of(hint)  # type: ignore[arg-type]
        assert set(found) == set(fields), place
        for key, kind in fields.items():
            check(found[key], kind, f"{place}.{key}", met)
    elif origin is tuple:
        kinds = inner[:1] * len(found) if inner[-1] is ... else inner
        for entry, kind in zip(found, kinds, strict=True):
            check(entry, kind, place, met)
    elif origin is typing.Literal:
        assert found in inner, place
    elif origin is not None:
        for entry in found.values():
            check(entry, inner[1], place, met)
    else:
        assert isinstance(found, (int, float) if hint is float else hint) or (hint is float and found is None), place


def test_what_is_printed_is_what_is_documented() -> None:
    found = several_json(compare_studies([study("a"), study("b")], by="study"))
    met: set[str] = set()
    check({**found["comparison"], "studies": found["studies"]}, Several, "", met)
    assert {"Analysis", "Level", "Interaction", "Cell", "GapEffect", "Groups", "Point", "Progress"} - met <= {
        "GapEffect"
    }
