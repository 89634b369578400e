"""Sizes: how members are cut into parts, by what parts took."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch

from tuner.training.fused.sizes import Sizes


class Machine:
    """Threads that train members of some programs; `seconds` says what a step of a part takes, all at once."""

    def __init__(self, threads: int, seconds: Any, most: int | None = None) -> None:
        self.sizes, self.seconds = Sizes(threads, torch.device("cpu"), most), seconds

    def epoch(self, *lots: list[Any]) -> list[int]:
        """The parts of an epoch, by their members."""
        parts = list(self.sizes.cut(lots))
        for members, at_once in parts:
            part = SimpleNamespace(members=members, program=members[0].program, at_once=at_once, learned=False)
            part.steps_taken, part.seconds = 1, self.seconds(len(members), at_once)
            self.sizes.note(part)  # type: ignore[arg-type]
        assert Counter(id(member) for members, _ in parts for member in members) == Counter(
            id(member) for lot in lots for member in lot
        )
        return [len(members) for members, _ in parts]


class Program:
    def __init__(self, bytes_per_member: int = 1000) -> None:
        self.bytes_per_member = bytes_per_member


def lot(count: int, program: Program | None = None) -> list[Any]:
    program = program or Program()
    return [SimpleNamespace(program=program) for _ in range(count)]


def test_few_members_train_on_one_thread_where_that_is_faster() -> None:
    """A step costs the same whatever its size, and twice that where two run at once."""
    machine, members = Machine(2, lambda size, at_once: 0.001 * at_once), lot(8)
    found = [machine.epoch(members) for _ in range(8)]
    assert found[0] == [4, 4]
    assert found[-1] == [8]


def test_and_on_two_where_that_is() -> None:
    machine, members = Machine(2, lambda size, at_once: 0.001 * size), lot(8)
    found = [machine.epoch(members) for _ in range(8)]
    assert [8] in found  # tried
    assert found[-1] == [4, 4]


def test_long_steps_are_not_tried_on_one_thread() -> None:
    machine, members = Machine(2, lambda size, at_once: 0.1 * size, most=8), lot(8)
    assert [machine.epoch(members) for _ in range(5)] == [[4, 4]] * 5


def test_the_fastest_size_is_found_for_many() -> None:
    """A step costs something by itself, and beyond 32 members caches overflow."""
    machine, members = Machine(1, lambda size, at_once: 10.0 + size + max(0, size - 32) ** 2), lot(256)
    found = [machine.epoch(members) for _ in range(20)]
    assert set(found[-1]) == {32}


def test_a_bound_that_is_no_power_of_two_is_taken_where_it_is_fastest() -> None:
    machine, members = Machine(1, lambda size, at_once: 1.0, most=100), lot(100)
    assert [machine.epoch(members) for _ in range(12)][-1] == [100]


def test_programs_share_the_threads() -> None:
    machine = Machine(2, lambda size, at_once: 1.0)
    assert machine.epoch(lot(8), lot(8)) == [8, 8]
    assert machine.epoch(lot(30), lot(3)) == [15, 15, 3]


def test_no_part_is_larger_than_memory_allows_or_than_is_asked() -> None:
    assert max(Machine(1, lambda size, at_once: 1.0, most=5).epoch(lot(23))) <= 5
    heavy = Program(bytes_per_member=10**14)
    assert max(Machine(1, lambda size, at_once: 1.0).epoch(lot(7, heavy))) <= 2


def test_what_was_too_large_is_not_taken_again() -> None:
    machine, members = Machine(1, lambda size, at_once: 1.0), lot(32)
    assert machine.epoch(members) == [32]
    machine.sizes.too_large(SimpleNamespace(members=members, program=members[0].program))  # type: ignore[arg-type]
    assert max(machine.epoch(members)) <= 16
