"""The page's process: a server on a socket of its own, and a thread that listens to the training."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import asynccontextmanager
from multiprocessing.connection import Client, Connection
from typing import Any

END_SECONDS = 2.0
"""The most that browsers have to show the end, and to let go, before the server goes."""


def main() -> None:
    """Serve the page until the training says that it is over, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    key, address = sys.stdin.read().split("\n")[:2]
    connection = Client(address, authkey=bytes.fromhex(key))
    about = connection.recv()
    try:
        listening = _socket(about["host"], about["port"])
    except OSError as error:
        value = about["host"] if about["port"] is None else f"{about['host']}:{about['port']}"
        taken = "Give another --port; 0 takes a free one."
        place, hint = ("--port", taken) if about["port"] is not None else ("--host", "Give an address of this machine.")
        words = {"place": place, "value": value, "hint": hint}
        connection.send({"error": f"cannot be listened on: {error.strerror or error}", **words})
        return
    _serve(about, listening, connection)


def _socket(host: str, port: int | None) -> socket.socket:
    """A socket that listens; port None is the usual one, or a free one where that is taken."""
    from tuner.live.link import PORT

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a picture's last bytes do not wait
    try:
        listening.bind((host, PORT if port is None else port))
        listening.listen()
    except OSError:
        listening.close()
        if port is not None:
            raise
        return _socket(host, 0)
    return listening


def _serve(about: dict[str, Any], listening: socket.socket, connection: Connection) -> None:
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    from tuner.live.page.access import Guard, is_loopback
    from tuner.live.page.board import Board
    from tuner.live.page.view import add_page

    host, port = about["host"], listening.getsockname()[1]
    token = "" if is_loopback(host) else secrets.token_urlsafe(24)
    board = Board(about, connection.send)
    add_page(board)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        connection.send({"url": _url(host, port, token)})
        threading.Thread(
            target=_listen, args=(connection, board, asyncio.get_running_loop(), server), daemon=True
        ).start()
        yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        app,
        title=about["title"],
        dark=None,
        reconnect_timeout=10.0,
        show_welcome_message=False,
        gzip_middleware_factory=None,
    )
    guarded = Guard(app, token, f"tuner_live_{port}")
    config = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=1, lifespan="on")
    server = uvicorn.Server(config)
    server.run(sockets=[listening])


def _url(host: str, port: int, token: str) -> str:
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"


def _listen(connection: Connection, board: Any, loop: asyncio.AbstractEventLoop, server: Any) -> None:
    """Hand what the training says to the board; when it says no more, show the end and go."""
    while not board.ended:
        try:
            messages = connection.recv()
        except (EOFError, OSError):
            messages = [{"kind": "ended", "text": "the training's process is gone"}]
        taken = asyncio.run_coroutine_threadsafe(_take(board, messages), loop)
        try:
            taken.result()  # what comes meanwhile waits, and of what is shown only the newest
        except Exception:  # of one message, which is no reason to take no more
            traceback.print_exc()
    until = time.monotonic() + END_SECONDS
    while board.holder.anyone and time.monotonic() < until:
        time.sleep(0.02)
    server.should_exit = True


async def _take(board: Any, messages: list[dict[str, Any]]) -> None:
    board.take(messages)
