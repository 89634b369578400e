"""The page in a real browser, with real mouse and keyboard, against the optimizer's state in the training itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_tasks import on_a_page, retrained, same_weights
from network import Network
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import PATIENCE_SECONDS, browser, complaints, requests
from tuner.live.running import LiveRequest, LiveTraining

pytestmark = pytest.mark.slow

SMALL: dict[str, dict[str, Any]] = {
    "picture": {"data.size": 32, "batch_size": 64},
    "denoise": {"data.sources": 4, "data.seconds": 0.5, "model.channels": 4},
    "digits": {},
    "colors": {},
    "arc": {"data.puzzles": 64, "model.head_dim": 8, "model.d_ff": 32},
}


def eventually(fact: Callable[[], Any]) -> None:
    """Wait until something holds."""
    WebDriverWait(None, PATIENCE_SECONDS, poll_frequency=0.05).until(lambda _: fact())


@dataclass
class Page:
    """A browser at the page of a session."""

    driver: webdriver.Chrome
    live: LiveTraining

    def open(self) -> None:
        """Go to the page, and wait until it holds or watches."""
        self.driver.get(self.live.watcher.url)
        eventually(lambda: "step" in self.text("status"))

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, name: str) -> str:
        return self.find(f'[data-live="{name}"]').text

    def control(self, name: str, inner: str) -> Any:
        return self.find(f'[data-control="{name}"] {inner}')

    def press(self, name: str) -> None:
        eventually(lambda: self.find(f'[data-button="{name}"]').is_enabled())
        self.find(f'[data-button="{name}"]').click()

    def drag(self, name: str, share: float) -> None:
        """Drag a control's slider with the mouse to a share of its width, once it can be."""
        eventually(lambda: "disabled" not in self.control(name, ".q-slider").get_attribute("class"))
        slider = self.control(name, ".q-slider")
        thumb = self.control(name, ".q-slider__thumb")
        box, at = slider.rect, thumb.rect
        target = box["x"] + share * box["width"]
        actions = ActionChains(self.driver, duration=60).click_and_hold(thumb)
        offset, moves = round(target - at["x"] - at["width"] / 2), 6
        for number in range(moves):
            actions.move_by_offset(offset * (number + 1) // moves - offset * number // moves, 0)
        actions.release().perform()

    def type(self, name: str, text: str) -> None:
        eventually(lambda: self.control(name, "input").is_enabled())
        field = self.control(name, "input")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.ENTER)

    def choose(self, name: str, choice: str) -> None:
        self.control(name, ".q-select").click()
        option = f'//div[@role="listbox"]//*[normalize-space(text())="{choice}"]'
        eventually(lambda: self.driver.find_elements(By.XPATH, option))
        time.sleep(0.3)  # the list slides open
        self.driver.find_element(By.XPATH, option).click()

    def field(self, name: str) -> str:
        return str(self.control(name, "input").get_attribute("value"))

    def curve(self, chart: str, name: str) -> list[list[float]]:
        """The points of a curve, as the chart has them."""
        script = """
          const chart = getElement(document.querySelector(`[data-live="${arguments[0]}"]`).id.slice(1)).chart;
          const lines = chart.getOption().series.filter((line) => line.name === arguments[1]);
          return lines.length ? lines[lines.length - 1].data : [];"""
        return self.driver.execute_script(script, chart, name)

    @property
    def optimizer(self) -> Any:
        return self.live.run.run.optimizer


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a session of a task in a browser of its own."""
    with ExitStack() as stack:

        def opened(target: str, **more: Any) -> Page:
            request = LiveRequest(target, studies=tmp_path, settings=SMALL.get(target, {}) | more, device="cpu", port=0)
            live = stack.enter_context(on_a_page(request))
            found = Page(stack.enter_context(browser(1300)), live)
            found.open()
            return found

        yield opened


@pytest.mark.parametrize("task", sorted(SMALL))
def test_every_task_is_turned_with_mouse_and_keyboard(task, page):
    seen = page(task)
    live = seen.live
    group = seen.optimizer.param_groups[0]
    assert (type(seen.optimizer).__name__, group["lr"]) == ("Adam", 2e-3)

    eventually(lambda: int(seen.find('[data-live="picture"]').get_property("naturalWidth")) > 50)
    seen.drag("learning_rate", 0.75)
    eventually(lambda: seen.optimizer.param_groups[0]["lr"] > 5e-3)
    turned = seen.optimizer.param_groups[0]["lr"]
    eventually(lambda: seen.field("learning_rate") == f"{turned:.6g}")
    eventually(lambda: f"learning rate 0.002 → {turned:.6g}" in seen.text("changes"))

    seen.type("optimizer_kwargs.weight_decay", "0.01")
    eventually(lambda: seen.optimizer.param_groups[0]["weight_decay"] == 0.01)

    seen.choose("optimizer", "SGD")
    eventually(lambda: type(seen.optimizer).__name__ == "SGD")
    group = seen.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (turned, 0.01, 0.9)
    eventually(lambda: seen.field("optimizer_kwargs.momentum") == "0.9")

    seen.press("undo")
    eventually(lambda: type(seen.optimizer).__name__ == "Adam")

    steps = live.run.steps_done
    eventually(lambda: live.run.steps_done > steps + 3)
    eventually(lambda: len(seen.curve("losses", "loss")) > 2)
    picture = seen.find('[data-live="picture"]')
    eventually(lambda: int(picture.get_property("naturalWidth")) > 50)
    assert seen.find('[data-live="caption"]').text.startswith("after ")
    if task == "denoise":
        before = live.run.steps_done
        seen.find('[data-sound="cleaned"]').click()
        audio = seen.find('[data-live="audio"]')
        eventually(lambda: "/cleaned" in str(audio.get_attribute("src")))
        eventually(lambda: (audio.get_property("duration") or 0) > 0.4)  # not known at first
        assert live.run.steps_done >= before
    if task == "colors":
        seen.find('[data-action="anchor"]').click()
        eventually(lambda: float(live.run.run.state["anchored"]) == 1.0)
        seen.type("data.data_fraction", "0.5")
        eventually(lambda: live.run.run.knobs.at(live.run.run.steps_done)["data.data_fraction"] == 0.5)

    seen.press("reset")
    eventually(lambda: any(change.name == "reset" for change in live.session.changes))
    reset_at = next(change.step for change in live.session.changes if change.name == "reset")
    eventually(lambda: live.run.steps_done > reset_at)
    assert live.run.run.steps_done <= live.run.steps_done - reset_at + 1  # it goes on meanwhile

    seen.press("stop")
    eventually(lambda: seen.find('[data-button="confirm_stop"]').is_displayed())
    time.sleep(0.3)  # the dialog opens
    seen.press("confirm_stop")
    eventually(lambda: live.run.stopped)
    eventually((live.folder.path / "weights.safetensors").exists)
    live.watcher.close("ended, saved")
    eventually(lambda: seen.text("status").startswith("ended, saved"))
    time.sleep(1)  # the server goes
    assert not seen.find("#popup").is_displayed()
    assert same_weights(retrained(live), live.run)
    assert complaints(seen.driver) == []
    assert all(url.startswith(live.watcher.url) for url in requests(seen.driver) if not url.startswith("chrome"))


def test_pause_single_step_reload_and_a_second_page(page, tmp_path):
    seen = page("digits")
    live = seen.live
    eventually(lambda: live.run.steps_done > 5)
    seen.press("pause")
    eventually(lambda: live.session.paused)
    eventually(lambda: "paused" in seen.text("status"))
    steps = live.run.steps_done
    seen.press("single_step")
    eventually(lambda: live.run.steps_done == steps + 1)
    eventually(lambda: f"step {steps + 1:,}" in seen.text("status"))

    seen.type("learning_rate", "0.05")
    eventually(lambda: "→ 0.05" in seen.text("changes"))
    seen.driver.refresh()
    eventually(lambda: "paused" in seen.text("status"))
    assert seen.field("learning_rate") == "0.05"
    assert "→ 0.05" in seen.text("changes")
    eventually(lambda: len(seen.curve("losses", "loss")) > 2)
    eventually(lambda: seen.find('[data-button="pause"]').is_enabled())  # it holds the controls again

    seen.driver.switch_to.new_window("tab")
    seen.open()
    assert not seen.find('[data-button="pause"]').is_enabled()
    assert not seen.control("learning_rate", "input").is_enabled()
    seen.press("take_controls")
    seen.press("pause")
    eventually(lambda: not live.session.paused)
    eventually(lambda: live.run.steps_done > steps + 3)
    first, second = seen.driver.window_handles
    seen.driver.close()
    seen.driver.switch_to.window(first)
    eventually(lambda: seen.find('[data-button="pause"]').is_enabled())  # the second page has gone
    assert second

    seen.press("save")
    eventually(lambda: list(live.folder.path.glob("checkpoint-*/weights.safetensors")))
    seen.press("save_recipe")
    eventually(lambda: list(live.folder.path.glob("recipe-*.yaml")))
    assert "learning_rate: 0.05" in next(iter(live.folder.path.glob("recipe-*.yaml"))).read_text()


def test_the_browser_is_gone_and_comes_back(page):
    seen = page("digits")
    live = seen.live
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    seen.driver.execute_cdp_cmd("Network.enable", {})
    seen.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    seen.driver.get("about:blank")
    steps = live.run.steps_done
    live.session.desk.turn("learning_rate", 0.03)
    eventually(lambda: live.run.steps_done > steps + 20)
    seen.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    seen.open()
    assert seen.field("learning_rate") == "0.03"
    eventually(lambda: seen.curve("losses", "loss") and seen.curve("losses", "loss")[-1][0] > steps)
    seen.drag("learning_rate", 0.2)
    eventually(lambda: seen.optimizer.param_groups[0]["lr"] < 1e-3)


def test_a_network_that_drops_and_comes_back_shows_what_was_missed(page):
    seen = page("digits")
    live = seen.live
    network = Network(urlsplit(live.watcher.url).port)
    try:
        seen.driver.get(f"http://127.0.0.1:{network.port}/")
        eventually(lambda: seen.find('[data-button="pause"]').is_enabled())
        network.cut()
        steps = live.run.steps_done
        live.session.desk.turn("learning_rate", 0.03)
        eventually(lambda: live.run.steps_done > steps + 20)
        assert seen.field("learning_rate") == "0.002"
        network.mend()
        eventually(lambda: seen.field("learning_rate") == "0.03")
        eventually(lambda: "→ 0.03" in seen.text("changes"))
        eventually(lambda: seen.curve("losses", "loss")[-1][0] > steps + 10)
        seen.press("pause")
        eventually(lambda: live.session.paused)
    finally:
        network.close()


def test_what_no_page_of_ours_would_send_changes_nothing(page):
    seen = page("digits")
    live = seen.live
    before = dict(live.session.values)
    seen.type("learning_rate", "7")
    eventually(lambda: "must be from" in seen.find("body").text)
    eventually(lambda: seen.field("learning_rate") == "0.002")
    seen.type("learning_rate", "much")
    eventually(lambda: "must be a finite number" in seen.find("body").text)
    slider = seen.control("learning_rate", ".q-slider").get_attribute("id").removeprefix("c")
    for arguments in ([1e9], [-1], ["x"], [None], [{"a": 1}], [True], [], "x", {"value": 5}, [[500]]):
        message = {"id": int(slider), "args": arguments, "listener_id": "?"}
        seen.driver.execute_script(
            """
            const element = mounted_app.elements[arguments[0].id];
            for (const event of element.events ?? [])
              window.socket.emit("event", {
                id: arguments[0].id, client_id: window.client_id ?? window.clientId,
                listener_id: event.listener_id, args: arguments[0].args,
              });
            window.socket.emit("event", arguments[0]);
            window.socket.emit("event", {client_id: "nobody"});
            window.socket.emit("nonsense", 1);
            """,
            json.loads(json.dumps(message)),
        )
    steps = live.run.steps_done
    eventually(lambda: live.run.steps_done > steps + 20)
    assert live.session.values == before
    assert live.session.changes == []
    seen.drag("learning_rate", 0.2)
    eventually(lambda: seen.optimizer.param_groups[0]["lr"] < 1e-3)


def test_a_broken_loss_pauses_and_the_last_good_checkpoint_is_offered(page, own_folder):
    (own_folder / "breaking.py").write_text(
        "from tiny import Tiny\n\n\n"
        "class Breaking(Tiny):\n"
        "    data_options = {'samples': 64, 'poison': 0.0}\n"
        "    properties = ('poison',)\n\n"
        "    def batch(self, data, index, properties, generator):\n"
        "        rows = data.rows(index)\n"
        "        return type(rows)(rows.inputs + float('nan'), rows.targets) if properties['poison'] else rows\n"
    )
    seen = page("breaking.py", batch_size=4)
    live = seen.live
    eventually(lambda: live.run.steps_done > 200)
    live.session.pace.may_snapshot = lambda turning: turning
    seen.type("data.poison", "1")
    eventually(lambda: live.session.paused)
    eventually(lambda: "not finite" in seen.text("hint"))
    good = live.session.checkpoints.good
    assert good > 0
    seen.find('[data-button="restore"]').click()
    eventually(lambda: f"back to the checkpoint of step {good}" in seen.text("changes"))
    assert live.session.values["data.poison"] == 0
    seen.press("pause")
    steps = live.run.steps_done
    eventually(lambda: live.run.steps_done > steps + 5)
    assert all(value.isfinite().all() for value in live.run.run.weights_now().values())
