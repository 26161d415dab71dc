"""The server of the page: where it listens, who may speak to it, and how it ends."""

import ipaddress
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from dampen.errors import InputError
from dampen.play import _live, _pages, _shell
from dampen.play._guard import Guard

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LARGEST_MESSAGE = 1 << 20  # bytes of a WebSocket message: a page sends a few hundred
_RECONNECT = 3.0  # seconds after which a page that is gone is let go, with its process


def run(
    query: Mapping[str, str],
    *,
    host: str,
    port: int,
    browser: bool,
    framed_by: Sequence[str] = (),
    ready: Callable[[str], object],
    data: Any = None,
    until: Callable[[], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        query: of the address that is opened: a lesson, or what other pages take.
        host: address to listen at.
        port: number of the port, 0 for any that is free.
        browser: whether to open the address in the browser.
        framed_by: origins whose pages may show this one inside.
        ready: is called with the address.
        data: what the page of the reader's own data begins with.
        until: returns when the server should end; runs in a thread of its own.

    Raises:
        InputError: the address can't be listened at.
    """
    own = _is_loopback(host)
    token = None if own else secrets.token_urlsafe(16)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    path = "/" if data is None else "/data"
    address = _address(host, port, path, {**query, **({} if token is None else {"token": token})})
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for page in _pages.PAGES:
        _shell.register(page, _pages.PAGES, data)
    ui.run_with(app, title="dampen play", reconnect_timeout=_RECONNECT, show_welcome_message=False, dark=None)
    guard = Guard(app, LOOPBACK if own else (), token, framed_by)
    config = uvicorn.Config(guard, log_level="warning", ws_max_size=_LARGEST_MESSAGE, timeout_graceful_shutdown=2)
    server = _Server(config, lambda: _opened(address, browser, ready))
    threading.Thread(target=_live.preload, name="dampen-preload", daemon=True).start()
    if until is not None:
        threading.Thread(target=lambda: (until(), server.end()), name="dampen-until", daemon=True).start()
    try:
        server.run([listening])
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells when it listens."""

    def __init__(self, config: uvicorn.Config, opened: Callable[[], object]):
        super().__init__(config)
        self._opened = opened

    def end(self) -> None:
        """Let the server end."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._opened()


def _opened(address: str, browser: bool, ready: Callable[[str], object]) -> None:
    ready(address)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # where it would let a second server take the port
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the page can't be served at {host}, port {port} ({reason}): --port 0 takes any port that is free"
        ) from None
    return found


def _address(host: str, port: int, path: str, query: Mapping[str, str]) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{path}" + (f"?{urlencode(query)}" if query else "")
