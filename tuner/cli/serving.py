"""optuna-dashboard's own application behind a small server of the standard library."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tuner.errors import UsageError

INSTALL = "pip install 'tuner[dashboard]'"


class _Server(ThreadingMixIn, WSGIServer):
    """A browser holds several connections open, and one that is idle must not hold up the others."""

    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, *arguments: object) -> None:
        pass


@dataclass(frozen=True)
class Listening:
    """A server that listens, and the address at which a browser finds the study."""

    study: str
    address: str
    server: WSGIServer


@contextmanager
def server(study: str | None, folder: Path, host: str, port: int) -> Iterator[Listening]:
    """A server of the study `study` (the newest if None), which holds its port until the block ends.

    The dashboard reads the database by itself, and only while it is asked: between requests it holds no lock, and while
    it reads a search goes on writing. Raises `UsageError` where optuna-dashboard is not installed, and for an address
    that cannot be listened on.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UsageError("needs optuna-dashboard", place="dashboard", hint=f"Install it: {INSTALL}") from error
    from tuner.cli.studies import opened

    found = opened(study, folder)
    kind = _IPv6Server if ":" in host else _Server
    try:
        listening = kind((host, port), _Silent)
    except OSError as error:
        raise UsageError(
            f"cannot be listened on: {error.strerror or error}",
            place="dashboard",
            value=f"{host}:{port}",
            hint="Give another --port; 0 takes a free one.",
        ) from error
    with listening:
        listening.set_app(wsgi(found.storage.backend))
        shown = f"[{host}]" if ":" in host else host
        page = f"dashboard/studies/{found.study._study_id}"
        yield Listening(found.study.study_name, f"http://{shown}:{listening.server_port}/{page}", listening)
