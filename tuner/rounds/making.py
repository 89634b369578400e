"""A study's making: what it takes over, its queue, and that it is ready, at once or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tuner.events import Note
from tuner.proposing.proposal import enqueue
from tuner.rounds.warm_start import (
    DEFAULT_RECIPE,
    WarmStart,
    copy_files,
    default_key,
    foreign_versions,
    queue_earlier,
    write_earlier,
)
from tuner.search_space.space import SearchSpace
from tuner.storage.studies import WARM_START, OpenStudy, mark_ready
from tuner.training.keeping import Keep


def make(
    opened: OpenStudy,
    space: SearchSpace,
    target: str,
    queue: Iterable[tuple[dict[str, Any], str]],
    start: WarmStart | None,
    keep: Keep,
) -> None:
    """Make a study that was just created: trials taken over come first, then the queue, then an earlier study's best.

    The default recipe is left out of the queue where its result is taken over.
    """
    study, with_weights = opened.study, set[int]()
    if start is not None:
        taken, queued = len(start.found.taken), len(start.found.queued)
        # Before any file, so that a making which is cut short can be cleared away.
        study.set_user_attr(WARM_START, {"study": start.name, "trials": taken, "queued": queued})
        with_weights = copy_files(start, opened, space, keep)
    with opened.storage.transaction():
        if start is not None:
            write_earlier(start, opened, space, with_weights)
        for values, origin in queue:
            if origin != DEFAULT_RECIPE or _place_of_default(start, space) is None:
                enqueue(study, space, values, origin)
        if start is not None:
            queue_earlier(start, opened, space)
        study.set_user_attr("target", target)
        mark_ready(study)


def _place_of_default(start: WarmStart | None, space: SearchSpace) -> int | None:
    """The number of the default recipe's trial among those taken over; None where it is not."""
    if start is None:
        return None
    keys = [setting.key for setting in start.found.taken]
    default = default_key(space)
    return keys.index(default) if default in keys else None


def notes_of_making(space: SearchSpace, start: WarmStart | None, threads: int) -> Iterator[Note]:
    """What a person should know of a new study."""
    taken = 0
    if start is not None:
        taken = len(start.found.taken)
        yield Note(start.told())
        if foreign := foreign_versions(start, threads):
            yield Note(foreign, "warning")
    if space.function is None and space.sampler != "grid":
        place = _place_of_default(start, space)
        trial = taken if place is None else place
        for path in space.default_values()[1]:
            yield Note(f"the default {path} is not in its searched range; trial {trial} takes the nearest value")
