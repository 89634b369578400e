"""Sizes: how many members a part has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.training.fused.member import Member
    from tuner.training.fused.part import Part


class Sizes:
    """The size of parts, by program."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or 32

    def cut(self, members: Sequence[Member], threads: int) -> list[list[Member]]:
        """Members of one program in lots of nearly equal size, for each thread as many."""
        count = max(min(threads, len(members) // 2), -(-len(members) // self.size), 1)
        return [list(members[len(members) * i // count : len(members) * (i + 1) // count]) for i in range(count)]

    def too_large(self, part: Part) -> None:
        """Note that a part was too large."""
        self.size = max(1, len(part.members) // 2)
