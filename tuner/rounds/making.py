"""A study's making: what it takes over, its queue, and that it is ready, at once or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tuner.events import Note
from tuner.proposing.proposal import enqueue
from tuner.rounds.warm_start import (
    DEFAULT_RECIPE,
    Seeds,
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
    seeds: Seeds | None,
    keep: Keep,
) -> None:
    """Make a study that was just created: trials taken over come first, then the queue, then an earlier study's best.

    The default recipe is left out of the queue where its result is taken over.
    """
    study, with_weights = opened.study, set[int]()
    if seeds is not None:
        taken, queued = len(seeds.found.taken), len(seeds.found.queued)
        # Before any file, so that a making which is cut short can be cleared away.
        study.set_user_attr(WARM_START, {"study": seeds.name, "trials": taken, "queued": queued})
        with_weights = copy_files(seeds, opened, space, keep)
    with opened.storage.transaction():
        if seeds is not None:
            write_earlier(seeds, opened, space, with_weights)
        for values, origin in queue:
            if origin != DEFAULT_RECIPE or _place_of_default(seeds, space) is None:
                enqueue(study, space, values, origin)
        if seeds is not None:
            queue_earlier(seeds, opened, space)
        study.set_user_attr("target", target)
        mark_ready(study)


def _place_of_default(seeds: Seeds | None, space: SearchSpace) -> int | None:
    """The number of the default recipe's trial among those taken over; None where it is not."""
    if seeds is None:
        return None
    keys = [setting.key for setting in seeds.found.taken]
    default = default_key(space)
    return keys.index(default) if default in keys else None


def notes_of_making(space: SearchSpace, seeds: Seeds | None, threads: int) -> Iterator[Note]:
    """What a person should know of a new study."""
    taken = 0
    if seeds is not None:
        taken = len(seeds.found.taken)
        yield Note(seeds.told())
        if foreign := foreign_versions(seeds, threads):
            yield Note(foreign, "warning")
    if space.function is None and space.sampler != "grid":
        place = _place_of_default(seeds, space)
        trial = taken if place is None else place
        for path in space.default_values()[1]:
            yield Note(f"the default {path} is not in its searched range; trial {trial} takes the nearest value")
