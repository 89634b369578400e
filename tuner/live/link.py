"""Link: the page's process, and what goes to and fro; the training never waits for it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from multiprocessing.connection import Connection, Listener
from typing import Any

from tuner.errors import UsageError
from tuner.live.controls import Control
from tuner.live.desk import Desk

INSTALL = "pip install 'tuner[live]'"
PORT = 8090
CLOSE_SECONDS = 3.0

_CODE = "from tuner.live.page.process import main; main()"


class Link:
    """A process of its own that serves the page; made with the session's title and what can be turned and pressed.

    `url` is where a browser finds it. What is told waits in memory until the page's process takes it; of what is shown
    only the newest does. Raises `UsageError` where NiceGUI is missing, or the address cannot be listened on.
    """

    def __init__(
        self, title: str, controls: Sequence[Control], buttons: Sequence[str], host: str, port: int | None, **about: Any
    ) -> None:
        if find_spec("nicegui") is None:
            raise UsageError("the page needs NiceGUI", hint=f"Install it: {INSTALL}")
        self.desk: Desk | None = None
        self._shown: dict[str, dict[str, Any]] = {}
        self._told: deque[dict[str, Any]] = deque()
        self._news = threading.Condition()
        self._closing = self.broken = False
        content = {"controls": [asdict(control) for control in controls], "buttons": list(buttons), **about}
        self._process, self._connection, self.url = _started({"title": title, "host": host, "port": port, **content})
        self._sender = threading.Thread(target=self._send, name="tuner-live-sender", daemon=True)
        self._receiver = threading.Thread(target=self._receive, name="tuner-live-receiver", daemon=True)
        self._sender.start()
        self._receiver.start()

    @property
    def process_id(self) -> int:
        """That of the page's process."""
        return self._process.pid

    def tell(self, kind: str, **content: Any) -> None:
        """Tell the page what it must not miss, in order; returns at once."""
        with self._news:
            if not self.broken:
                self._told.append({"kind": kind, **content})
            self._news.notify()

    def show(self, kind: str, **content: Any) -> None:
        """Show the newest of its kind; returns at once."""
        with self._news:
            self._shown[kind] = {"kind": kind, **content}
            self._news.notify()

    def _send(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._told or self._shown or self._closing)
                messages = [*self._told, *self._shown.values()]
                self._told.clear()
                self._shown.clear()
                if not messages:
                    return
            try:
                self._connection.send(messages)
            except OSError:
                self._break()
                return
            except Exception as error:  # something of a task that no other process can be told
                print(f"the page was not told: {type(error).__name__}: {error}", file=sys.stderr)

    def _break(self) -> None:
        """The page's process has ended; the training goes on."""
        with self._news:
            if self.broken or self._closing:
                return
            self.broken = True
            self._told.clear()
        print("the page's process has ended; the training goes on without it", file=sys.stderr)

    def _receive(self) -> None:
        """Take what the page asks for; what cannot be is told to whoever asked."""
        while True:
            try:
                message = self._connection.recv()
            except (OSError, EOFError):
                self._break()
                return
            by = message.get("by", "") if isinstance(message, dict) else ""
            try:
                self._ask(message, by)
            except Exception as error:  # whatever a message holds, controls go on
                name = message.get("name", "") if isinstance(message, dict) else ""
                self.tell("refused", text=str(error), to=by, name=name)

    def _ask(self, message: Any, by: str) -> None:
        if self.desk is None or not isinstance(message, dict):
            return
        if "button" in message:
            self.desk.press(message["button"], message.get("argument", ""), by)
        else:
            self.desk.turn(message.get("name"), message.get("value"), by)

    def close(self, words: str) -> None:
        """Tell the page that the session is over, and end its process."""
        self.tell("ended", text=words)
        with self._news:
            self._closing = True
            self._news.notify()
        self._sender.join(CLOSE_SECONDS)
        try:
            self._process.wait(CLOSE_SECONDS)  # it shows the end, and leaves
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()


def _started(about: dict[str, Any]) -> tuple[subprocess.Popen[bytes], Connection, str]:
    """The page's process, connected, with what it needs to know, and its address."""
    key = secrets.token_bytes(32)
    with Listener(authkey=key) as listener:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if not os.environ.get("TUNER_DEBUG") else None,
            stderr=subprocess.DEVNULL if not os.environ.get("TUNER_DEBUG") else None,
            start_new_session=True,  # Ctrl-C is for the training, which ends the page
        )
        try:
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(key.hex().encode() + b"\n" + str(listener.address).encode() + b"\n")
            connection = _accepted(listener, process)
            return process, connection, _address(connection, about)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, (EOFError, OSError)):
                raise UsageError("the page's process ended before it began; TUNER_DEBUG=1 shows why") from None
            raise


def _accepted(listener: Listener, process: subprocess.Popen[bytes]) -> Connection:
    """The connection that the page's process makes; `EOFError` where it ends first."""
    accepted: list[Connection] = []
    waiting = threading.Thread(target=lambda: accepted.append(listener.accept()), daemon=True)
    waiting.start()
    while waiting.is_alive():
        waiting.join(0.05)
        if process.poll() is not None:
            raise EOFError
    if not accepted:
        raise EOFError
    return accepted[0]


def _address(connection: Connection, about: dict[str, Any]) -> str:
    """Where the page is, once it is there; `UsageError` where it cannot be."""
    connection.send(about)
    while not connection.poll(0.2):  # so that Ctrl-C is not waited for
        pass
    ready = connection.recv()
    if "error" in ready:
        connection.close()
        raise UsageError(ready["error"], place=ready["place"], value=ready["value"], hint=ready["hint"])
    return str(ready["url"])
