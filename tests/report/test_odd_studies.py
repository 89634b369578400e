"""Studies of odd shapes, plain Optuna's own, through the command: a sensible report at any width, never a traceback."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.cells import cell_len

RATE = FloatDistribution(1e-5, 1e-1, log=True)
WIDTH = IntDistribution(8, 64)


@pytest.fixture(scope="module")
def without_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as plain Optuna makes it, without a study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = tmp_path_factory.mktemp("plain") / "plain.db"
    optuna.storages.RDBStorage(f"sqlite:///{path}").engine.dispose()
    return path


def done(value: float | None, state: TrialState = TrialState.COMPLETE, **more: Any) -> FrozenTrial:
    """A trial with a rate and a width drawn by its value."""
    draw = random.Random(repr((value, more)))
    kinds: dict[str, BaseDistribution] = more.pop("kinds", {"learning_rate": RATE, "width": WIDTH})
    params = more.pop("params", None)
    if params is None:
        params = {"learning_rate": 10 ** draw.uniform(-5, -1), "width": draw.randint(8, 64)}
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: kinds[name] for name in params},
        user_attrs=more.pop("attributes", {}),
        intermediate_values=more.pop("reports", {}),
    )


def spread(count: int, scale: float = 1.0) -> list[float]:
    draw = random.Random(count)
    return [draw.random() * scale for _ in range(count)]


def categories(number: int, count: int) -> list[FrozenTrial]:
    kind = CategoricalDistribution([f"choice {k}" for k in range(number)])
    draw = random.Random(0)
    return [
        done(draw.random(), params={"which": draw.choice(kind.choices)}, kinds={"which": kind}) for _ in range(count)
    ]


def many_parameters(number: int, count: int) -> list[FrozenTrial]:
    kinds: dict[str, BaseDistribution] = {f"section.option_{k}": FloatDistribution(0, 1) for k in range(number)}
    draw = random.Random(1)
    return [done(draw.random(), params={name: draw.random() for name in kinds}, kinds=kinds) for _ in range(count)]


def conditional(count: int) -> list[FrozenTrial]:
    """Each trial has one of two parameters, none both."""
    kinds: dict[str, BaseDistribution] = {"momentum": FloatDistribution(0, 0.99), "betas": FloatDistribution(0.9, 1)}
    draw = random.Random(2)
    found = []
    for k in range(count):
        name = list(kinds)[k % 2]
        found.append(done(draw.random(), params={name: draw.uniform(0.9, 0.99)}, kinds=kinds))
    return found


def odd_names(count: int) -> list[FrozenTrial]:
    names = ["a\nb", "c\x1b[31md", "tab\there", "ключ", "", " ", "value", "[bold]x[/bold]", "x" * 120]
    kinds: dict[str, BaseDistribution] = {name: CategoricalDistribution(["p\x07q", "[red]r", None]) for name in names}
    draw = random.Random(3)
    choices = kinds["value"].choices  # type: ignore[attr-defined]
    return [
        done(draw.random(), params={name: draw.choice(choices) for name in names}, kinds=kinds) for _ in range(count)
    ]


def pruned(count: int, **attributes: Any) -> list[FrozenTrial]:
    draw = random.Random(4)
    return [
        done(
            None,
            TrialState.PRUNED,
            reports={step: draw.random() for step in range(1, 2 + k % 4)},
            attributes=dict(attributes),
            params={"learning_rate": 10 ** draw.uniform(-5, -1)},
        )
        for k in range(count)
    ]


def with_learning_curves(special: float, count: int = 15) -> list[FrozenTrial]:
    draw = random.Random(5)
    return [
        done(draw.random(), reports={step: draw.random() if step % 3 else special for step in range(1, 13)})
        for _ in range(count)
    ]


ODD: dict[str, Callable[[], list[FrozenTrial]]] = {
    "empty": list,
    "one trial": lambda: [done(0.5)],
    "one trial without parameters": lambda: [done(0.5, params={})],
    "two trials": lambda: [done(0.5), done(0.6)],
    "all failed": lambda: [done(None, TrialState.FAIL) for _ in range(12)],
    "all failed by one error": lambda: [
        done(None, TrialState.FAIL, attributes={"reason": "ValueError: no\x1b[2J"}) for _ in range(12)
    ],
    "all pruned": lambda: pruned(15),
    "all pruned without a report": lambda: [done(None, TrialState.PRUNED) for _ in range(15)],
    "all diverged": lambda: pruned(15, diverged=True),
    "one value": lambda: [done(0.5, attributes={"k": k}) for k in range(20)],
    "two values": lambda: [done(k % 2, attributes={"k": k}) for k in range(40)],
    "one better than all": lambda: [done(float(k == 7), attributes={"k": k}) for k in range(40)],
    "300 categories, 400 trials": lambda: categories(300, 400),
    "300 categories, 60 trials": lambda: categories(300, 60),
    "as many categories as trials": lambda: categories(10_000, 30),
    "huge values": lambda: [done(value) for value in spread(30, 1e300)],
    "the largest values": lambda: [done(math.copysign(1.7e308, value - 0.5) * value) for value in spread(30)],
    "tiny values": lambda: [done(value) for value in spread(30, 1e-300)],
    "huge and tiny values": lambda: [done(value * 10.0 ** (300 * (k % 3 - 1))) for k, value in enumerate(spread(30))],
    "some infinite": lambda: [done(value if k % 5 else math.inf) for k, value in enumerate(spread(30))],
    "all infinite": lambda: [done(-math.inf if k % 2 else math.inf, attributes={"k": k}) for k in range(20)],
    "reports of NaN": lambda: with_learning_curves(math.nan),
    "infinite reports": lambda: with_learning_curves(math.inf),
    "60 parameters, 20 trials": lambda: many_parameters(60, 20),
    "60 parameters, 3 trials": lambda: many_parameters(60, 3),
    "one parameter": lambda: many_parameters(1, 30),
    "names with control characters": lambda: odd_names(30),
    "conditional parameters alone": lambda: conditional(40),
    "running alone": lambda: [done(None, TrialState.RUNNING) for _ in range(5)],
    "waiting alone": lambda: [done(None, TrialState.WAITING, params={}) for _ in range(5)],
    "duplicates and infeasible alone": lambda: [
        *(done(0.5, attributes={"duplicate_of": 0}) for _ in range(10)),
        *(done(None, TrialState.PRUNED, attributes={"infeasible": "a <= b"}) for _ in range(10)),
    ],
    "attributes of other kinds than tuner's": lambda: [
        done(value, attributes={"seconds": "long", "gap": [1], "diverged": {}, "reason": 3, "best_epoch": "late"})
        for value in spread(15)
    ],
    "a range of one value": lambda: [
        done(value, params={"k": 3}, kinds={"k": IntDistribution(3, 3)}) for value in spread(15)
    ],
    "huge parameters": lambda: [
        done(value, params={"x": value * 1e308}, kinds={"x": FloatDistribution(-1e308, 1e308)}) for value in spread(30)
    ],
    "epochs as the reports of a search": lambda: [
        done(value, reports={step: value * step for step in range(1, 16)}) for value in spread(30)
    ],
}


@pytest.fixture
def study(tmp_path: Path, without_studies: Path) -> Callable[..., Path]:
    """Makes a study of trials; gives the folder."""

    def made(trials: list[FrozenTrial], **kwargs: Any) -> Path:
        path = Path(shutil.copy(without_studies, tmp_path / "odd.db"))
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", skip_compatibility_check=True)
        optuna.create_study(study_name="odd", storage=storage, **(kwargs or {"direction": "maximize"})).add_trials(
            trials
        )
        storage.engine.dispose()
        return tmp_path

    return made


def assert_readable(text: str, width: int) -> None:
    """No line is wider than the terminal, and nothing in it would garble one."""
    assert "Traceback" not in text
    for line in text.splitlines():
        assert cell_len(line) <= width, line
        assert all(char.isprintable() for char in line), repr(line)
    assert not re.search(r"(?<![\w.])(nan|inf)(?![\w.])", text), "what is not known is left out, or a dash"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_study_has_a_sensible_report(
    kind: str,
    direction: str,
    study: Callable[..., Path],
    tuner: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = ODD[kind]()
    folder = study(trials, direction=direction)
    for width in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        told = tuner("analyze", "odd", "--studies", str(folder))
        assert (told.code, told.err) == (0, "")
        assert_readable(told.out, width)
        assert told.out.startswith("Summary\n")
        assert "\nAdvice\n" in told.out
    told = tuner("analyze", "odd", "--studies", str(folder), "--json")
    assert (told.code, told.err) == (0, "")
    found = json.loads(told.out, parse_constant=lambda word: pytest.fail(f"JSON has no word for {word}"))
    assert found["counts"]["total"] == len(trials)
    values = [trial.value for trial in trials if _counts(trial)]
    best = (max if direction == "maximize" else min)(values, default=None)  # type: ignore[type-var]
    assert (found["best"] or {}).get("value") == best


def _counts(trial: FrozenTrial) -> bool:
    return (
        trial.state == TrialState.COMPLETE
        and math.isfinite(trial.value or 0.0)
        and "duplicate_of" not in trial.user_attrs
    )


def test_several_objectives_are_refused_in_words(study: Callable[..., Path], tuner: Callable[..., Any]) -> None:
    told = tuner("analyze", "odd", "--studies", str(study([], directions=["minimize", "maximize"])))
    assert told.code == 2
    assert "one objective" in told.err and "2" in told.err
    assert "Traceback" not in told.err + told.out


@pytest.mark.parametrize("kind", ["empty", "one trial", "all pruned", "300 categories, 60 trials", "one value"])
def test_intervals_of_an_odd_study(kind: str, study: Callable[..., Path], tuner: Callable[..., Any]) -> None:
    told = tuner("analyze", "odd", "--studies", str(study(ODD[kind]())), "--intervals")
    assert (told.code, told.err) == (0, "")
