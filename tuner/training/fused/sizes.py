"""Sizes: how many members a part has, by measurement; no result depends on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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

TRIALS = 2
"""So many epochs of a size are measured before it is judged, by the fastest; of one with long steps a single one."""

LONG_STEP = 0.02
"""The seconds of a step that is long: what threads wait for each other is nothing against it."""

MEMORY_SHARE = 0.5
"""The share of the free memory that the parts under way may take together."""


class _Sizes:
    """What was measured of one program: the seconds that a member took for a step.

    By the parts of its members that trained at once, and by how many members each had: parts at once share caches, and
    Python.
    """

    def __init__(self, most: int, bytes_per_member: int) -> None:
        self.most = most
        self.first = min(FIRST_MOST, _power_of_two(FIRST_BYTES // max(1, bytes_per_member)))
        self._seconds: dict[tuple[int, int], list[float]] = {}

    def add(self, at_once: int, size: int, seconds: float) -> None:
        self._seconds.setdefault((at_once, _power_of_two(size)), []).append(seconds)

    def _least(self, at_once: int, size: int) -> float | None:
        """The least seconds of a size; None before it has been tried."""
        found = self._seconds.get((at_once, _power_of_two(size)), [])
        return min(found) if len(found) >= TRIALS or (found and min(found) * size >= LONG_STEP) else None

    def best(self, lanes: int) -> int:
        """The size for so many parts at once: the fastest so far, or one beside it that has not been tried."""
        sizes = (size for at_once, size in self._seconds if at_once == lanes)
        tried = {size: seconds for size in sizes if (seconds := self._least(lanes, size)) is not None}
        if not tried:
            return min(self.first, self.most)
        fastest = min(tried, key=tried.__getitem__)
        for size in (2 * fastest, fastest // 2):
            if size not in tried and LEAST <= size < 2 * self.most:
                return min(size, self.most)
        return min(fastest, self.most)

    def parts(self, members: int, lanes: int) -> int:
        """How many parts to cut members into."""
        size = self.best(lanes)
        rounds = -(-members // (size * lanes))
        parts = max(min(rounds * lanes, members // min(size, LEAST - 1)), -(-members // self.most))
        return 1 if rounds == 1 and parts > 1 and self._faster_as_one(members, parts) else parts

    def _faster_as_one(self, members: int, parts: int) -> bool:
        """Whether few members are to train on one thread, which was faster, or was not tried while the other was."""
        apart, together = self._least(parts, members // parts), self._least(1, members)
        if members > self.most or apart is None or apart * members / parts >= LONG_STEP:
            return False
        return together is None or together < apart / parts


class Sizes:
    """Cuts the members of a program into parts. `most` bounds a part; None leaves it to speed and memory."""

    def __init__(self, threads: int, device: torch.device, most: int | None = None) -> None:
        self.threads, self.device, self.most = threads, device, most
        self._known: WeakKeyDictionary[Program, _Sizes] = WeakKeyDictionary()

    def cut(self, lots: Sequence[Sequence[Member]]) -> Iterator[tuple[Sequence[Member], int]]:
        """Lots, each of members of one program, in parts of nearly equal size; with how many of a lot train at once.

        Each lot has its share of the threads.
        """
        total = sum(map(len, lots))
        for lot in lots:
            known, count, lanes = self._of(lot[0].program), len(lot), -(-self.threads * len(lot) // total)
            # the larger, the better a GPU is used
            parts = known.parts(count, lanes) if self.device.type == "cpu" else -(-count // known.most)
            for number in range(parts):
                yield lot[count * number // parts : count * (number + 1) // parts], min(parts, lanes)

    def _of(self, program: Program) -> _Sizes:
        if program not in self._known:
            fitting = MEMORY_SHARE * _free_bytes(self.device) / (self.threads * max(1, program.bytes_per_member))
            most = max(2, min(self.most or 2**20, int(fitting)))
            self._known[program] = _Sizes(most, program.bytes_per_member)
        return self._known[program]

    def note(self, part: Part) -> None:
        """Take in how fast a part was."""
        if part.steps_taken and not part.learned:
            seconds = part.seconds / part.steps_taken / len(part.members)
            self._of(part.program).add(part.at_once, len(part.members), seconds)

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
