"""Who may see the page, and who holds the controls."""

from __future__ import annotations

import secrets
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine, and no other."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what comes from pages of ours; wraps an ASGI application.

    On a loopback address a request must name one as its host, so that no other site's name can be made to mean this
    machine; elsewhere it needs the `token`, which a first visit brings in its address and a cookie keeps. What comes
    from a page must come from one of this very server.
    """

    def __init__(self, app: Any, token: str = "", cookie: str = "tuner_live") -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not refusal and self.token and scope["type"] == "http" and self._fits(brought):
            await _answer(send, 303, b"", [(b"location", b"/"), (b"set-cookie", self._cookie_header())])
        elif not refusal and (not self.token or self._fits(self._brought_cookie(headers))):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            words = refusal or "This page needs the token that was printed where the training was started."
            await _answer(send, 403, words.encode(), [(b"content-type", b"text/plain; charset=utf-8")])

    def _refusal(self, headers: dict[str, str]) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            if not self.token and not is_loopback(urlsplit(f"//{host}").hostname):
                return "This page is for this machine only."
            if origin is not None and urlsplit(origin).netloc != host:
                return "This request comes from another page."
        except ValueError:
            return "This request is from no browser."
        return ""

    def _fits(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.token.encode())

    def _brought_cookie(self, headers: dict[str, str]) -> str:
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        return next((value for name, _, value in pairs if name == self.cookie), "")

    def _cookie_header(self) -> bytes:
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()


async def _answer(send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Holder:
    """Which of the browsers holds the controls: the first that is there, until it goes or another takes them."""

    def __init__(self) -> None:
        self._there: list[str] = []
        self.holder = ""

    @property
    def anyone(self) -> bool:
        """Whether any browser is there."""
        return bool(self._there)

    def come(self, browser: str) -> None:
        """A browser is there."""
        if browser not in self._there:
            self._there.append(browser)
        if not self.holder:
            self.holder = browser

    def go(self, browser: str) -> None:
        """A browser is gone; the one that came first of the others takes over."""
        if browser in self._there:
            self._there.remove(browser)
        if self.holder == browser:
            self.holder = self._there[0] if self._there else ""

    def take(self, browser: str) -> None:
        """A browser takes the controls."""
        if browser in self._there:
            self.holder = browser
