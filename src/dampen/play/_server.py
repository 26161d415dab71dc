"""The server of the page: where it listens, who may speak to it, and how it ends."""

import logging
import secrets
import socket
import threading
import warnings
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from dampen.errors import InputError
from dampen.play import _live, _pages, _shell
from dampen.play._address import LOOPBACK, address_of, is_loopback
from dampen.play._guard import Guard

_LARGEST_MESSAGE = 1 << 20  # bytes of a WebSocket message: a page sends a few hundred
_NOISE = (
    "ASGI callable returned without completing handshake.",
    " not found",
)  # ends of lines on what strangers ask for
_REDUCE_OP = "`torch.distributed.reduce_op` is deprecated"  # NiceGUI looks at all objects for its server
_RECONNECT = 3.0  # seconds after which a page that is gone is let go, with its process


def run(
    query: Mapping[str, str],
    *,
    listening: socket.socket,
    host: str,
    browser: bool,
    framed_by: Sequence[str] = (),
    ready: Callable[[str], object],
    data: Any = None,
    until: Callable[[], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        query: of the address that is opened: a lesson, or what other pages take.
        listening: has the port.
        host: address that it listens at.
        browser: whether to open the address in the browser.
        framed_by: origins whose pages may show this one inside.
        ready: is called with the address.
        data: what the page of the reader's own data begins with.
        until: returns when the server should end; runs in a thread of its own.

    Raises:
        InputError: there is no page for what is given.
    """
    path = "/" if data is None else "/data"
    if path not in {page.path for page in _pages.PAGES}:
        raise InputError("data of your own have no page here: give a shape of points, such as moons, or nothing")
    own = is_loopback(host)
    token = None if own else secrets.token_urlsafe(16)
    port = listening.getsockname()[1]
    address = address_of(host, port, path, {**query, **({} if token is None else {"token": token})})
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for page in _pages.PAGES:
        _shell.register(page, _pages.PAGES, data)
    ui.run_with(app, title="dampen play", reconnect_timeout=_RECONNECT, show_welcome_message=False, dark=None)
    guard = Guard(app, (*LOOPBACK, host) if own else (), token, framed_by, cookie=f"dampen-play-{port}")
    config = uvicorn.Config(guard, log_level="warning", ws_max_size=_LARGEST_MESSAGE, timeout_graceful_shutdown=2)
    for name in ("uvicorn.error", "nicegui"):
        logging.getLogger(name).addFilter(_matters)
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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _REDUCE_OP, FutureWarning)
            await super().startup(sockets)
        if self.started:
            self._opened()


def _matters(record: logging.LogRecord) -> bool:
    return not record.getMessage().endswith(_NOISE)


def _opened(address: str, browser: bool, ready: Callable[[str], object]) -> None:
    ready(address)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
