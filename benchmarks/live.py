"""What the live page costs and how fast it is: throughput with and without it in turn, delays, frames.

    python benchmarks/live.py [--tasks picture digits] [--trainings 10] [--windows 16] [--seconds 0.8]
        [--drags 40]

Training has one core; the page's process and a headless Chromium have the others. Needs chromium, chromium-driver and
`pip install selenium`. Linux only.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tuner.live import Live
from tuner.live.link import Link
from tuner.live.running import LiveRequest, LiveTraining, link_of

SLIDER = '[data-control="learning_rate"] .q-slider'

SETTLE_SECONDS = 0.4
"""Before each window, so that the browser is at work in those with it, and at rest in those without."""

WARMING_WINDOWS = 2
"""The first windows of a training, which are not counted."""

OBSERVE = """
window.released = 0; window.delays = []; window.frames = 0;
document.addEventListener('pointerup', () => { window.released = performance.now(); }, true);
document.addEventListener('mouseup', () => { window.released = performance.now(); }, true);
new MutationObserver(() => {
  if (window.released) { window.delays.push(performance.now() - window.released); window.released = 0; }
}).observe(
  document.querySelector('[data-live="changes"] tbody'), {childList: true, subtree: true, characterData: true});
const image = document.querySelector('[data-live="picture"]');
if (image) image.addEventListener('load', () => { window.frames += 1; });
"""


@contextmanager
def browser(cores: set[int]) -> Iterator[webdriver.Chrome]:
    """A headless Chromium on some of the cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # what is started now keeps to them
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1400"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    os.sched_setaffinity(0, before)
    try:
        yield driver
    finally:
        driver.quit()


def steps_in(training: LiveTraining, seconds: float) -> float:
    """Steps a second over so many seconds."""
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        training.session.step()
        training.run.step()
        training.session.end_step(training.run.last)
        steps += 1
    return steps / (time.perf_counter() - started)


def throughput(task: str, trainings: int, windows: int, seconds: float, mine: set[int], others: set[int]) -> None:
    """Steps a second with the page open and without one, window by window in turn.

    What slows a machine from outside changes within seconds, so windows are short and many, and the totals are
    compared; two trainings of the same are not equally fast, so they are made anew several times.
    """
    pairs = [side_by_side(task, windows, seconds, mine, others) for _ in range(trainings)]
    ratio, error = ratio_of_totals(pairs)
    print(
        f"{task}: {statistics.mean(with_page for with_page, _ in pairs):.1f} steps/s with the page open, "
        f"{statistics.mean(without for _, without in pairs):.1f} without: {100 * ratio:.1f} % "
        f"(standard error {100 * error:.1f}; {trainings} trainings of {windows} windows of {seconds:g} s each way)",
        flush=True,
    )


def side_by_side(task: str, windows: int, seconds: float, mine: set[int], others: set[int]) -> tuple[float, float]:
    """Mean steps a second of two trainings in turn, the first with the page open, the second without one."""
    with tempfile.TemporaryDirectory() as folder, browser(others) as driver:
        os.sched_setaffinity(0, others)
        seen = LiveTraining(LiveRequest(task, studies=Path(folder), port=0), link_of)
        os.sched_setaffinity(0, mine)
        assert isinstance(seen.watcher, Link)
        alone = LiveTraining(LiveRequest(task, studies=Path(folder)))
        driver.get(seen.watcher.url)
        time.sleep(3)
        rates: dict[LiveTraining, list[float]] = {seen: [], alone: []}
        for window in range(WARMING_WINDOWS + windows):
            for training in (seen, alone) if window % 2 else (alone, seen):
                steps_in(training, SETTLE_SECONDS)
                rates[training].append(steps_in(training, seconds))
        seen.watcher.close("ended")
    return statistics.mean(rates[seen][WARMING_WINDOWS:]), statistics.mean(rates[alone][WARMING_WINDOWS:])


def ratio_of_totals(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The ratio of what the firsts and the seconds add up to, and its standard error over the pairs.

    The error is the jackknife's (Efron and Stein, The Jackknife Estimate of Variance, 1981).
    """
    first, second = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    left_out = [(first - a) / (second - b) for a, b in pairs]
    return first / second, math.sqrt(statistics.pvariance(left_out) * (len(pairs) - 1))


def delays(drags: int, mine: set[int], others: set[int]) -> None:
    """Milliseconds from the release of a slider until the page shows the change, the training in a thread."""
    with tempfile.TemporaryDirectory() as folder, browser(others) as driver:
        os.sched_setaffinity(0, others)
        training = LiveTraining(LiveRequest("picture", studies=Path(folder), port=0), link_of)
        os.sched_setaffinity(0, mine)
        assert isinstance(training.watcher, Link)
        arrived: list[int] = []
        put = training.session.desk._put

        def noted(wish: object) -> None:
            arrived.append(training.session.steps_done)
            put(wish)  # type: ignore[arg-type]

        training.session.desk._put = noted  # type: ignore[method-assign, assignment]
        thread = threading.Thread(target=training.train)
        thread.start()
        driver.get(training.watcher.url)
        time.sleep(3)
        driver.execute_script(OBSERVE)
        for number in range(drags):
            thumb = driver.find_element(By.CSS_SELECTOR, f"{SLIDER} .q-slider__thumb")
            way = (1 if number % 2 else -1) * (30 + number % 7 * 5)
            drag = ActionChains(driver, duration=60).click_and_hold(thumb)
            drag.move_by_offset(way // 2, 0).move_by_offset(way - way // 2, 0).release().perform()
            time.sleep(1.0)
        found = driver.execute_script("return window.delays")
        training.session.desk.press("stop")
        thread.join()
        waits = [change.step - step for change, step in zip(training.session.changes, arrived, strict=False)]
        print(
            f"release to shown: median {statistics.median(found):.0f} ms, "
            f"90th percentile {statistics.quantiles(found, n=10)[-1]:.0f} ms "
            f"({len(found)} of {drags} drags seen); "
            f"steps from arrival to the first with the new value: at most {max(waits)}"
        )
        training.watcher.close("ended")


def frames(seconds: float, others: set[int]) -> None:
    """Pictures of 256 x 256 that a browser loads a second, when one is ready at every step of a loop of one's own."""
    with tempfile.TemporaryDirectory() as folder, browser(others) as driver:
        ready = [torch.rand(256, 256, 3) for _ in range(10)]
        with Live("frames", folder=folder, port=0) as live:
            driver.get(str(live.url))
            counted: list[float] = []

            def watch() -> None:
                time.sleep(3)
                driver.execute_script(OBSERVE)
                started = time.perf_counter()
                time.sleep(seconds)
                counted.append(driver.execute_script("return window.frames") / (time.perf_counter() - started))
                live.stop()

            thread = threading.Thread(target=watch)
            thread.start()
            while live.step():
                live.log(loss=1.0, image=ready[live.steps_done % 10])
                live.end_step()
                time.sleep(0.005)
            thread.join()
    print(f"pictures of 256 x 256: {counted[0]:.1f} a second")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["picture", "digits"])
    parser.add_argument("--trainings", type=int, default=10, help="at least 2")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--drags", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    mine, others = {cores[0]}, set(cores[1:]) or {cores[0]}
    for task in arguments.tasks:
        throughput(task, arguments.trainings, arguments.windows, arguments.seconds, mine, others)
    delays(arguments.drags, mine, others)
    frames(5.0, others)


if __name__ == "__main__":
    main()
