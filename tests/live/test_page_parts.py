"""Parts of the page that need no browser: curves that are thinned, effects, hints, who may see and turn."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.live.controls import Control
from tuner.live.page import changes, hints, process
from tuner.live.page.access import Guard, Holder
from tuner.live.page.board import Board
from tuner.live.page.effects import Effects
from tuner.live.page.history import MOST, Curve, History
from tuner.live.page.widgets import place_of
from tuner.live.watching import Change

finite = st.floats(-1e6, 1e6)


@given(st.lists(st.one_of(finite, st.just(math.nan)), max_size=3 * MOST))
def test_curves_are_thinned_and_nothing_high_or_low_is_forgotten(values):
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, value)
    kept = [value for value in values if math.isfinite(value)]
    assert len(curve.points) <= MOST
    assert sum(point.count for point in curve.points) == len(kept)
    if kept:
        assert min(point.low for point in curve.points) == min(kept)
        assert max(point.high for point in curve.points) == max(kept)
        assert curve.mean(0, len(values)) == pytest.approx(sum(kept) / len(kept), abs=1e-3)
    steps = [point.first for point in curve.points]
    assert steps == sorted(set(steps))


def test_a_spike_is_seen_after_a_million_steps():
    curve = Curve()
    for step in range(200_000):
        curve.add(step, 100.0 if step == 777 else 1.0)
    assert [value for _, value in curve.envelope() if value > 50] == [100.0]
    assert len(curve.envelope()) <= 2 * MOST


def test_smoothing_of_a_constant_is_the_constant():
    curve = Curve()
    for step in range(50):
        curve.add(step, 3.0)
    assert {value for _, value in curve.line(0.97)} == {3.0}


def test_no_changes_are_no_rows():
    assert changes.rows([], [], []) == []


def told(effects: Effects, rows: list[tuple[int, dict[str, float]]], *made: Change) -> None:
    """Changes as a session tells them: before some of the rows of the steps that went before them."""
    left = list(made)
    for number, row in enumerate(rows):
        while left and left[0].step - 5 <= number:
            effects.add_change(left.pop(0))
        effects.add_row(row)


def test_effects_compare_the_loss_before_and_after_until_the_next_change_and_stay():
    made = [Change(100, 7.0, "learning_rate", 0.1, 0.2), Change(120, 3605.0, "reset", None, None)]
    effects = Effects()
    losses = [4.0 if step < 100 else 2.0 if step < 120 else 1.0 for step in range(200)]
    told(effects, [(step, {"loss": loss}) for step, loss in enumerate(losses)], *made)
    labels = [Control("learning_rate", "number", 0.1)]
    found = changes.rows(made, effects.texts(), labels)
    assert [(row["step"], row["time"], row["effect"]) for row in found] == [
        (120, "1:00:05", "loss 2 → 1 (-50 %)"),
        (100, "0:07", "loss 4 → 2 (-50 %)"),
    ]
    assert found[1]["what"] == "learning rate 0.1 → 0.2"
    for step in range(200, 60_000):
        effects.add_row((step, {"loss": 77.0}))
    assert effects.texts() == ["loss 4 → 2 (-50 %)", "loss 2 → 1 (-50 %)"]


def test_another_loss_is_judged_by_a_term_that_means_the_same():
    effects = Effects()
    rows = [(step, {"mse": 4.0, "l1": 2.0, "loss": 4.0 if step < 60 else 2.0}) for step in range(100)]
    told(effects, rows, Change(60, 0.0, "loss", "mse", "l1"), Change(90, 0.0, "save", None, None))
    assert effects.texts() == ["mse 4 → 4 (+0 %)", ""]


@pytest.mark.parametrize(
    ("loss", "optimizer", "words"),
    [
        (lambda step: 1.0, "Adam", "plateau: try SGD with momentum"),
        (lambda step: 1.0, "SGD", "plateau: try Adam"),
        (lambda step: 1.0 + step / 100, "Adam", "rising"),
        (lambda step: 40.0 if step % 97 == 0 else 1.0, "Adam", "spikes"),
        (lambda step: 100.0 / (step + 1), "Adam", ""),
        (lambda step: 100.0 / (step + 1) ** 2 * (6.0 if step % 97 == 0 else 1.0), "Adam", ""),
    ],
)
def test_hints(loss, optimizer, words):
    history = History()
    for step in range(600):
        history.add(step, {"loss": loss(step)})
    state = {"values": {"optimizer": optimizer}, "broken_at": -1}
    found = hints.hint(history, state, 0)
    assert words in found
    assert bool(found) == bool(words)
    assert hints.hint(history, state, 590) == ""
    assert "go back" in hints.hint(history, state | {"broken_at": 3}, 590)


def test_one_holds_the_controls():
    holder = Holder()
    for name in ("a", "b", "c"):
        holder.come(name)
    assert holder.holder == "a"
    holder.take("c")
    holder.go("c")
    assert holder.holder == "a"
    holder.go("a")
    assert holder.holder == "b"
    holder.take("stranger")
    assert holder.holder == "b"
    holder.go("b")
    assert holder.holder == ""


def answer(guard: Guard, kind: str = "http", query: str = "", **headers: str) -> tuple[Any, dict[bytes, bytes]]:
    """The status with which a request is answered, 200 where it is let through, and the headers."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    scope = {
        "type": kind,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(guard(scope, receive, send))
    first = sent[0] if sent else {}
    return first.get("status", first.get("code", 200)), dict(first.get("headers", []))


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that says nothing."""


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_on_this_machine_only_its_own_pages_are_let_in(kind):
    guard, refused = Guard(nothing), 403 if kind == "http" else 1008
    for host in ("127.0.0.1:8090", "127.0.0.2:8090", "localhost:8090", "[::1]:8090"):
        assert answer(guard, kind, host=host)[0] == 200
        assert answer(guard, kind, host=host, origin=f"http://{host}")[0] == 200
        assert answer(guard, kind, host=host, origin="http://evil.example")[0] == refused
        assert answer(guard, kind, host=host, origin="http://127.0.0.1:9999")[0] == refused
        assert answer(guard, kind, host=host, origin="null")[0] == refused
    assert answer(guard, kind, host="evil.example:8090")[0] == refused
    assert answer(guard, kind)[0] == refused
    assert answer(guard, kind, host="[")[0] == refused
    assert answer(guard, kind, host="127.0.0.1", origin="http://[x")[0] == refused


def test_elsewhere_a_token_is_needed_and_a_cookie_keeps_it():
    guard = Guard(nothing, "secret", "c")
    host = {"host": "10.0.0.5:8090"}
    assert answer(guard, **host)[0] == 403
    assert answer(guard, query="token=wrong", **host)[0] == 403
    status, headers = answer(guard, query="token=secret", **host)
    assert status == 303
    assert b"HttpOnly" in headers[b"set-cookie"] and b"SameSite=Strict" in headers[b"set-cookie"]
    cookie = headers[b"set-cookie"].decode().partition(";")[0]
    assert answer(guard, cookie=cookie, **host)[0] == 200
    assert answer(guard, "websocket", cookie=cookie, **host)[0] == 200
    assert answer(guard, "websocket", **host)[0] == 1008
    assert answer(guard, "websocket", query="token=secret", **host)[0] == 1008
    assert answer(guard, cookie="c=wrong", **host)[0] == 403
    assert answer(guard, cookie='theme={"a": 1}; ' + cookie, **host)[0] == 200


def test_a_slider_stands_at_an_end_for_what_is_beyond_it():
    control = Control("learning_rate", "number", 0.01, 1e-5, 0.1, "log")
    assert [place_of(control, value) for value in (0.0, 1e-5, 0.1, 7.0)] == [0, 0, 1000, 1000]


def test_a_message_that_fails_is_no_reason_to_take_no_more(capsys):
    board = Board({"title": "x", "controls": [], "buttons": []}, lambda wish: None)
    change = vars(Change(1, 0.0, "reset", None, None))
    messages = [
        [{"kind": "change", **change}, {"kind": "change", **change}],
        [{"kind": "frame", "pictures": []}],
        [{"kind": "nonsense"}],
        [{"kind": "ended", "text": "ended"}],
    ]

    class Connection:
        def recv(self):
            return messages.pop(0)

    class Server:
        should_exit = False

    async def listen():
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(process._listen, Connection(), board, loop, Server)

    asyncio.run(listen())
    assert (board.ended, len(board.changes), Server.should_exit) == ("ended", 2, True)
    assert "nonsense" in capsys.readouterr().err
