"""Every scheduler moves the rate and momentum of a trial in a group as it does alone, at every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from fusing import Group, assert_close, held, shown
from resuming import same_bits
from test_schedules import CASES, EVERY_CASE, started, trained

from tuner.training.fused.member import Member

Key = tuple[str, int, str, int, str]

STRIDES = [("epoch", 1), ("step", 3)]

KEYS: list[Key] = [
    (name, number, *length, optimizer)
    for name, number in EVERY_CASE
    for length in STRIDES
    for optimizer in (("SGD", "Adam") if name in ("OneCycleLR", "CyclicLR") else ("SGD",))
]


@pytest.fixture(scope="module")
def group() -> tuple[Group, dict[Key, Member]]:
    """All of them, trained as one group."""
    runs = {key: started(key[0], CASES[key[0]][key[1]].options, *key[2:]) for key in KEYS}
    first = runs[KEYS[0]]
    found = Group(first.task, first.recipe)
    members = found.start(*(run.recipe for run in runs.values()))
    return found, dict(zip(KEYS, found.train(members), strict=True))


@pytest.mark.parametrize(("interval", "frequency"), STRIDES)
@pytest.mark.parametrize(("name", "number"), EVERY_CASE)
def test_as_alone(group, name: str, number: int, interval: str, frequency: int) -> None:
    """Rates and notes are the same to the last bit; what is trained with them is within rounding."""
    for key, member in group[1].items():
        if key[:4] != (name, number, interval, frequency):
            continue
        run, _ = trained(*key)
        assert (member.series.array()[:, -1] == run.series.array()[:, -1]).all()
        assert [r.learning_rate for r in member.records] == [r.learning_rate for r in run.records]
        assert [r.notes for r in member.records] == [r.notes for r in run.records]
        assert_close(shown(member), shown(run), rel=1e-4, abs=1e-5)


def test_ended_within_an_epoch_and_begun_again(group, tmp_path: Path) -> None:
    """After two steps of the second, three of the fourth and all of the sixth."""
    members = group[0].start(*(group[1][key].recipe for key in KEYS))
    for steps in (2, 3, 4):
        group[0].train(members, epochs=1)
        group[0].cut_off(members, steps)
        members = group[0].through_a_file(members, tmp_path)
        group[0].train(members, epochs=1)
    for key, member in zip(KEYS, group[0].train(members), strict=True):
        found, expected = held(member), held(group[1][key])
        assert [name for name in expected if not same_bits(found[name], expected[name])] == [], key
