"""A network between a browser and a server that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Network:
    """Passes connections on to `port`, from `self.port`, while it is whole; to be closed."""

    def __init__(self, port: int) -> None:
        self._target, self._whole = port, True
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._passing: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """Break all connections, and let no new one through."""
        self._whole = False
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """Let new connections through."""
        self._whole = True

    def close(self) -> None:
        """Break everything off."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        self._accepting.join()
        for thread in self._passing:
            thread.join()

    def _accept(self) -> None:
        with self._listening:
            while True:
                try:
                    near, _ = self._listening.accept()
                except OSError:
                    return
                self._let_through(near)

    def _let_through(self, near: socket.socket) -> None:
        if not self._whole:
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        self._open += [near, far]
        for source, sink in ((near, far), (far, near)):
            self._passing.append(threading.Thread(target=_pass_on, args=(source, sink), daemon=True))
            self._passing[-1].start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until either end is gone; the other direction, which then ends too, closes the sink."""
    with source:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
