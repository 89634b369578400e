"""The page: controls on the left, what one sees on the right; every browser has one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Any

from fastapi import Response
from nicegui import Client, app, background_tasks, ui

from tuner.live.page import changes, hints
from tuner.live.page.board import Board
from tuner.live.page.plots import Plot, marks_of
from tuner.live.page.widgets import Widget, widget_for

PLOT_SECONDS, PLOT_PATIENCE = 0.4, 8
"""Curves are drawn no more often than this, and than so many times as long as a browser takes to draw them."""

DRAW_SECONDS = 0.2
"""What nobody waits for is drawn no more often than this."""

CONNECT_SECONDS = 60.0
IDLE_SECONDS = 5.0
"""Seconds after which a page looks again though there is no news."""

FOLLOW = """
async (id) => {
  const image = document.getElementById(id);
  for (let number = 0; image.isConnected && !window.sessionEnded; ) {
    try {
      const answer = await fetch(`/picture?after=${number}`);
      if (answer.status !== 200) continue;
      number = Number(answer.headers.get("X-Number"));
      const address = URL.createObjectURL(await answer.blob());
      await new Promise((drawn) => { image.onload = image.onerror = drawn; image.src = address; });
      URL.revokeObjectURL(address);
      const small = image.naturalWidth < 256;  // such as of 8 x 8 pixels
      image.style.width = small ? "256px" : "";
      image.style.imageRendering = image.naturalWidth < image.clientWidth ? "pixelated" : "auto";
    } catch { await new Promise((waited) => setTimeout(waited, 1000)); }
  }
}
"""
"""Brings an image element to the newest picture, again and again; it asks for the next when it has drawn one."""

DRAWN = "return new Promise((drawn) => requestAnimationFrame(() => setTimeout(() => drawn(0))))"
"""Answers when a browser has drawn what was sent to it before; in a tab that nobody sees it does not."""

END = """
window.sessionEnded = true;
document.getElementById("popup").style.setProperty("display", "none", "important");
setTimeout(() => window.socket.disconnect());
"""
"""Lets a page stay as it is when the session is over: there is no connection that could come back."""

STYLE = """
.live-picture { max-width: 100%; max-height: 28rem; object-fit: contain; }
.nicegui-content { padding: 0.75rem; }
.q-table__bottom--nodata .q-icon { display: none; }
"""


def add_page(board: Board) -> None:
    """Serve the page, pictures and sounds of a board."""

    @app.get("/picture")
    async def picture(after: int = 0) -> Response:
        """The newest picture, once there is a newer one than number `after`."""
        until = time.monotonic() + IDLE_SECONDS
        while board.frame_number <= after and not board.ended and time.monotonic() < until:
            await board.news(IDLE_SECONDS)
        if board.frame_number <= after:
            return Response(status_code=204)
        content, number = await asyncio.to_thread(board.frame)
        return Response(content, media_type="image/png", headers={"Cache-Control": "no-store", "X-Number": str(number)})

    @app.get("/sound/{number}/{name}")
    def sound(number: int, name: str) -> Response:
        found = board.sounds.get(name)
        if found is None:
            return Response(status_code=404)
        return Response(found, media_type="audio/wav", headers={"Cache-Control": "no-store"})

    @ui.page("/")
    def page(client: Client) -> None:
        View(board, client)


class View:
    """One browser's page. It draws the newest, waits until the browser has it, and only then draws again."""

    def __init__(self, board: Board, client: Client) -> None:
        self.board, self.holder, self.client = board, board.holder, client
        self.labels = {control.name: control.shown for control in board.controls}
        self.widgets: dict[str, Widget] = {}
        self.buttons: dict[str, ui.button] = {}
        self._refused: dict[str, int] = dict(board.refused)
        self._noted = board.notes[-1].number if board.notes else 0
        self._played = board.play.number if board.play else 0
        self._listed = self._frame = self._drawn_step = -1
        self._state: dict[str, Any] = {}
        self._drawn_at, self._plots_due, self._plot_seconds = 0.0, True, PLOT_SECONDS
        self._build()
        client.on_connect(self._come)
        client.on_disconnect(self._go)
        self._refresh()
        background_tasks.create(self._follow(), name=f"follow {client.id}")

    def _come(self) -> None:
        self.holder.come(self.client.id)
        self.board.look()

    def _go(self) -> None:
        if not self.client.has_socket_connection:
            self.holder.go(self.client.id)
            self.board.look()

    @property
    def _holds(self) -> bool:
        return self.holder.holder == self.client.id

    # -- elements -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        ui.add_css(STYLE)
        self._build_bar()
        with ui.row().classes("w-full gap-4 items-start"):
            with ui.column().classes("w-full md:w-72 gap-2"):
                self._build_holder()
                self._build_controls()
            with ui.column().classes("w-full md:flex-1 md:min-w-0 gap-3"):
                self._build_hint()
                self._build_preview()
                self._build_plots()
                self._build_changes()

    def _build_bar(self) -> None:
        with ui.row().classes("w-full items-center gap-x-4 gap-y-1"):
            ui.label(self.board.title).classes("text-lg font-bold")
            self.status = ui.label().classes("text-sm").props('data-live="status"')
            ui.space()
            self._button("pause", "pause", "Pause: the run waits between two steps", self._pause)
            self._button("single_step", "skip_next", "One step, then pause")
            self._button("undo", "undo", "Undo the last change of a control; the weights stay")
            self._button("reset", "restart_alt", "Reset: fresh weights, optimizer and schedule; steps are counted on")
            self._button("save", "save", "Save a checkpoint: weights and recipe as they are")
            self._button("save_recipe", "description", "Save the recipe as the controls stand now")
            self._button("stop", "stop", "Stop: the session ends, its record and weights are kept", self._confirm_stop)
        with ui.dialog() as self.stop_dialog, ui.card():
            ui.label("End the session? Its record and the weights are kept.")
            with ui.row():
                ui.button("Stop", on_click=self._stop).props('color=negative data-button="confirm_stop"')
                ui.button("Go on", on_click=self.stop_dialog.close).props("flat")

    def _button(self, name: str, icon: str, words: str, action: Any = None) -> None:
        if name not in self.board.buttons:
            return
        button = ui.button(icon=icon, on_click=action or partial(self._press, name))
        button.props(f'dense round flat data-button="{name}" aria-label="{words}"').tooltip(words)
        self.buttons[name] = button

    def _build_holder(self) -> None:
        with ui.row().classes("items-center gap-2") as self.watching:
            ui.label("Another page holds the controls.").classes("text-sm")
            take = ui.button("Take them", on_click=self._take_controls)
            take.props('dense outline size=sm data-button="take_controls"')

    def _build_controls(self) -> None:
        for control in self.board.controls:
            self.widgets[control.name] = widget_for(control, self._turn)
        for action in self.board.actions:
            button = ui.button(action, on_click=partial(self._press, "action", action))
            button.props(f'dense outline data-action="{action}"')
            self.buttons[f"action {action}"] = button

    def _build_hint(self) -> None:
        with ui.row().classes("items-center gap-2 no-wrap") as self.hint_row:
            ui.icon("lightbulb").classes("text-amber-600")
            self.hint = ui.label().classes("text-sm").props('data-live="hint"')
            self.restore = ui.button("Go back", on_click=partial(self._press, "restore"))
            self.restore.props('dense size=sm color=primary data-button="restore"')

    def _build_preview(self) -> None:
        with ui.column().classes("w-full gap-1") as self.preview:
            self.picture = ui.element("img").classes("live-picture").props('data-live="picture" alt="preview"')
            with ui.row().classes("items-center gap-2"):
                self.caption = ui.label().classes("text-xs text-gray-500").props('data-live="caption"')
                for name in self.board.sound_names:
                    button = ui.button(name, icon="play_arrow", on_click=partial(self._press, "listen", name))
                    button.props(f'dense flat size=sm no-caps data-sound="{name}"')
        self.audio = ui.audio("", controls=False).classes("hidden").props('data-live="audio"')

    def _build_plots(self) -> None:
        with ui.row().classes("items-center gap-4"):
            self.scale = ui.toggle({False: "linear", True: "log"}, value=True, on_change=self._plots_changed)
            self.scale.props('dense no-caps size=sm data-live="scale"')
            ui.label("smoothing").classes("text-sm")
            self.smoothing = ui.slider(min=0, max=0.99, step=0.01, value=0.6, on_change=self._plots_changed)
            self.smoothing.classes("w-32").props('dense data-live="smoothing" aria-label="smoothing"')
        self.losses = Plot("Loss")
        self.losses.chart.props('data-live="losses"')
        self.metrics = Plot("Epochs")
        self.metrics.chart.props('data-live="metrics"')

    def _build_changes(self) -> None:
        ui.label("Changes").classes("text-sm font-bold")
        columns = [
            {"name": name, "label": name, "field": name, "align": "left", "style": "white-space: normal"}
            for name in ("step", "time", "what", "effect")
        ]
        self.table = ui.table(columns=columns, rows=[], row_key="id", pagination=8).classes("w-full")
        self.table.props('dense flat data-live="changes" no-data-label="Nothing was turned yet."')
        self.table.props(':rows-per-page-options="[8]"')

    # -- what a person does ---------------------------------------------------------------------------------------

    def _turn(self, name: str, value: object) -> None:
        if self._may_turn(name):
            self.board.ask({"name": name, "value": value, "by": self.client.id})

    def _press(self, button: str, argument: str = "") -> None:
        if button == "listen" or self._may_turn():
            self.board.ask({"button": button, "argument": argument, "by": self.client.id})

    def _may_turn(self, name: str = "") -> bool:
        """Whether this page holds the controls of a session that goes on; if not, it shows again how they stand."""
        if self._holds and not self.board.ended:
            return True
        self.board.refused[name] = self.board.refused.get(name, 0) + 1
        self._refresh()
        return False

    def _pause(self) -> None:
        self._press("go_on" if self.board.state.get("paused") else "pause")

    def _confirm_stop(self) -> None:
        if self._holds:
            self.stop_dialog.open()

    def _stop(self) -> None:
        self.stop_dialog.close()
        self._press("stop")

    def _take_controls(self) -> None:
        self.holder.take(self.client.id)
        self.board.look()

    def _plots_changed(self) -> None:
        self._plots_due = True
        self.board.look()

    # -- what a person sees ---------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Draw whatever is new, as fast as the browser takes it."""
        with contextlib.suppress(TimeoutError):  # a browser that only fetched the page
            await self.client.connected(CONNECT_SECONDS)
        if not self.client.has_socket_connection:
            return
        self.client.run_javascript(f"({FOLLOW})('{self.picture.html_id}')")
        while not self.client.is_deleted:
            with self.client:
                self._refresh()
            seen, sent = self.board.urgent, time.monotonic()
            if await self._is_drawn(seen) and self._drawn_at + DRAW_SECONDS > sent:  # curves were among it
                self._plot_seconds = max(PLOT_SECONDS, PLOT_PATIENCE * (time.monotonic() - sent))
            while self.board.urgent == seen and (rest := self._rest(sent)) > 0:
                await self.board.news(rest)

    async def _is_drawn(self, seen: int) -> bool:
        """Wait until the browser has drawn what it was sent; False where something urgent came before."""
        drawn = asyncio.ensure_future(self._drawn())
        while not drawn.done() and self.board.urgent == seen:
            news = asyncio.ensure_future(self.board.news(IDLE_SECONDS))
            await asyncio.wait({drawn, news}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        return drawn.done()

    async def _drawn(self) -> None:
        with contextlib.suppress(TimeoutError):
            await self.client.run_javascript(DRAWN, timeout=IDLE_SECONDS)

    def _rest(self, sent: float) -> float:
        """Seconds to wait after something was sent: a little, and on if there is nothing to draw."""
        now, board = time.monotonic(), self.board
        if self._plots_due:
            return 0.0
        if board.state is not self._state:
            return sent + DRAW_SECONDS - now
        return IDLE_SECONDS

    def _refresh(self) -> None:
        board, state = self.board, self.board.state
        self._state = state
        self._show_state(state)
        self._show_controls(state)
        self._show_notes()
        if board.frame_number != self._frame:
            self._frame = board.frame_number
            self.preview.set_visibility(self._frame > 0)
            if self._frame:
                self.caption.text = f"after {board.frame_step:,} steps"
        new_changes = len(board.changes) != self._listed
        due = board.history.last_step != self._drawn_step and time.monotonic() - self._drawn_at >= self._plot_seconds
        if new_changes or due:
            self._listed = len(board.changes)
            self.table.rows = changes.rows(board.changes, board.effects.texts(), board.controls)
        if new_changes:
            self._plots_due = True  # next time: what a person waits for comes first
        elif due or self._plots_due:
            self._draw()

    def _draw(self) -> None:
        board = self.board
        self._drawn_at, self._drawn_step, self._plots_due = time.monotonic(), board.history.last_step, False
        marks = marks_of(board.changes, self.labels)
        smoothing, logarithmic = float(self.smoothing.value or 0), bool(self.scale.value)
        curves = board.history.curves
        ordered = {name: curves[name] for name in sorted(curves, key=lambda name: name != "loss")}
        self.losses.draw(ordered, marks, smoothing, logarithmic)
        self.metrics.chart.set_visibility(bool(board.history.epochs))
        if board.history.epochs:
            first = (board.metric, "val_loss", "train_loss")
            epochs = {name: board.history.epochs[name] for name in first if name in board.history.epochs}
            self.metrics.draw(epochs | board.history.epochs, marks, 0.0, False, tuple(epochs)[:1])

    def _show_state(self, state: dict[str, Any]) -> None:
        paused = bool(state.get("paused"))
        words = self.board.ended or ("paused" if paused else "running")
        parts = [words, f"step {state.get('step', 0):,}"]
        if not paused and not self.board.ended:
            parts.append(f"{state.get('rate', 0.0):,.3g} steps/s")
        if "loss" in self.board.history.last:
            parts.append(f"loss {self.board.history.last['loss']:.4g}")
        parts += [state.get("now", ""), changes.clock(state.get("seconds", 0.0)), self.board.note]
        self.status.text = " · ".join(part for part in parts if part)
        if self.board.ended:
            self.client.run_javascript(END)
        pause = self.buttons["pause"]
        pause.props(f"icon={'play_arrow' if paused else 'pause'}")
        for name, button in self.buttons.items():
            able = self._holds and not self.board.ended and (name != "undo" or bool(state.get("can_undo")))
            button.set_enabled(able)
            button.set_visibility(not self.board.ended)
        self.watching.set_visibility(self.holder.holder not in ("", self.client.id) and not self.board.ended)
        since = max((change.step for change in self.board.changes), default=0)
        hint = hints.hint(self.board.history, state, since)
        self.hint.text = hint
        self.hint_row.set_visibility(bool(hint))
        good = state.get("good", -1)
        offered = "restore" in self.board.buttons and state.get("broken_at", -1) >= 0 and good >= 0
        self.restore.set_visibility(offered)
        self.restore.text = f"Go back to step {good}"

    def _show_controls(self, state: dict[str, Any]) -> None:
        optimizer = str(state["values"].get("optimizer", ""))
        for name, widget in self.widgets.items():
            again = self.board.refused.get(name, 0) != self._refused.get(name, 0)
            widget.show(state["values"][name], optimizer, again)
            widget.enable(self._holds and not self.board.ended)
        self._refused = dict(self.board.refused)

    def _show_notes(self) -> None:
        for note in self.board.notes:
            if note.number > self._noted and note.to in ("", self.client.id):
                ui.notify(
                    note.text, type="warning" if note.level == "warning" else "info", timeout=6000, multi_line=True
                )
            self._noted = max(self._noted, note.number)
        play = self.board.play
        if play is not None and play.number > self._played:
            self._played = play.number
            if play.to == self.client.id:
                self.audio.set_source(f"/sound/{play.number}/{play.name}")
                self.audio.run_method("play")
