"""Sessions in this process, of small tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tuner.live.link import Link
from tuner.live.replay import Recorded
from tuner.live.running import LiveRequest, LiveTraining, link_of
from tuner.training.trainer import Trainer
from tuner.training.turned_run import TurnedRun


def session_of(target: str, studies: Path, **settings: Any) -> LiveTraining:
    """A session without a page, before its first step."""
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return LiveTraining(LiveRequest(target, studies=studies, settings=dotted, device="cpu"))


def train(live: LiveTraining, steps: int, script: Mapping[int, list[tuple[Any, ...]]] | None = None) -> None:
    """Train so many steps; before step n what `script[n]` says is asked: (control, value), or a button."""
    for _ in range(steps):
        for name, *value in (script or {}).get(live.run.steps_done, []):
            if value:
                live.session.desk.turn(name, value[0])
            else:
                live.session.desk.press(name)
        if not live.session.step():
            return
        live.run.step()
        live.session.end_step(live.run.last)


def retrained(live: LiveTraining) -> TurnedRun:
    """The session trained again from the files that it left."""
    recorded = Recorded(live.folder.path, None, "--timeline")
    trainer = Trainer(recorded.task, live.trainer.goal, live.trainer.terms, torch.device("cpu"))
    run = TurnedRun(trainer, recorded.recipe, recorded.turns)
    while run.steps_done < (recorded.end or 0):
        run.step()
    run.settle()
    return run


def same_weights(first: TurnedRun, second: TurnedRun) -> bool:
    """Whether two runs have equal weights, bit for bit."""
    one, other = first.run.weights_now(), second.run.weights_now()
    return all(torch.equal(one[name], other[name]) for name in one)


WITH_ACTIONS = """
from tiny import Tiny


class Acting(Tiny):
    actions = ('grow', 'break')
    phases = ('warm', 'hot')

    def on_action(self, action, model, state):
        model[0].weight.mul_(1.5)
        if action == 'break':
            raise RuntimeError('no such layer')
        return {}
"""


def acting(folder: Path, studies: Path, **settings: Any) -> LiveTraining:
    """A session of a task in `folder` that has actions, one of which fails halfway, and phases."""
    (folder / "acting.py").write_text(WITH_ACTIONS)
    return session_of("acting.py", studies, batch_size=8, **settings)


@contextmanager
def on_a_page(request: LiveRequest) -> Iterator[LiveTraining]:
    """A session with a page, in training in a thread of its own until the block ends."""
    live = LiveTraining(request, link_of)
    assert isinstance(live.watcher, Link)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            live.train()
        except BaseException as error:  # told to the test, which runs in another thread
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield live
    finally:
        live.session.desk.press("stop")
        thread.join(60)
        live.watcher.close("ended")
        assert not thread.is_alive()
        assert not problems
