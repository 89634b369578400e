"""Sizes: how many members a part has, by measurement; no result depends on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

if TYPE_CHECKING:
    from tuner.training.fused.member import Member
    from tuner.training.fused.part import Part
    from tuner.training.fused.program import Program

FIRST_BYTES = 2**25
"""What the first parts hold in memory, if they are not tiny: larger and smaller ones are tried then."""

FIRST_MOST = 128
"""The size of first parts of tiny models."""

LEAST = 4
"""The least size that is tried: a part of fewer than three members has rows that nobody needs."""

MEMORY_SHARE = 0.5
"""The share of the free memory that the parts under way may take together."""


class _Sizes:
    """The sizes tried for one program, with the least seconds that a member took for a step."""

    def __init__(self, most: int, bytes_per_member: int) -> None:
        self.most = most
        self.first = min(FIRST_MOST, _power_of_two(FIRST_BYTES // max(1, bytes_per_member)))
        self.seconds: dict[int, float] = {}

    def best(self) -> int:
        """The size to take: the fastest so far, or one beside it that has not been tried."""
        if not self.seconds:
            return min(self.first, self.most)
        fastest = min(self.most, min(self.seconds, key=self.seconds.__getitem__))
        for size in (2 * fastest, fastest // 2):
            if size not in self.seconds and LEAST <= size <= self.most:
                return size
        return fastest


class Sizes:
    """Cuts the members of a program into parts. `most` bounds a part; None leaves it to speed and memory."""

    def __init__(self, threads: int, device: torch.device, most: int | None = None) -> None:
        self.threads, self.device, self.most = threads, device, most
        self._known: WeakKeyDictionary[Program, _Sizes] = WeakKeyDictionary()

    def cut(self, members: Sequence[Member]) -> list[list[Member]]:
        """Members of one program in lots of nearly equal size, enough of them for all threads."""
        size = self._of(members[0].program).best()
        if self.device.type != "cpu":
            size = self._of(members[0].program).most  # the larger, the better a GPU is used
        rounds = -(-len(members) // (size * self.threads))
        count = max(1, min(rounds * self.threads, len(members) // min(size, LEAST - 1)))
        return [list(members[len(members) * i // count : len(members) * (i + 1) // count]) for i in range(count)]

    def _of(self, program: Program) -> _Sizes:
        if program not in self._known:
            fitting = MEMORY_SHARE * _free_bytes(self.device) / (self.threads * max(1, program.bytes_per_member))
            most = max(2, min(self.most or 2**20, int(fitting)))
            self._known[program] = _Sizes(most, program.bytes_per_member)
        return self._known[program]

    def note(self, part: Part) -> None:
        """Take in how fast a part was."""
        known = self._of(part.program)
        if part.steps_taken:
            size = _power_of_two(len(part.members))
            taken = part.seconds / part.steps_taken / len(part.members)
            known.seconds[size] = min(taken, known.seconds.get(size, taken))

    def too_large(self, part: Part) -> None:
        """Note that there was no memory for a part of this size."""
        self._of(part.program).most = max(2, len(part.members) // 2)


def _power_of_two(number: int) -> int:
    """The nearest above, `LEAST` or more: sizes are tried in these."""
    return max(LEAST, 1 << (number - 1).bit_length())


def _free_bytes(device: torch.device) -> float:
    """The memory that is free now; without end where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")
