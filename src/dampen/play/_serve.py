"""The way in: what has to be right before the server starts."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dampen.errors import InputError
from dampen.play._address import listen

if TYPE_CHECKING:
    from dampen.data import Data


def serve(
    query: Mapping[str, str] | None = None,
    *,
    data: "Data | None" = None,
    host: str = "127.0.0.1",
    port: int = 0,
    browser: bool = True,
    framed_by: Sequence[str] = (),
    ready: Callable[[str], object] | None = None,
    until: Callable[[], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        query: fields of the address that is opened, such as `{"dropout": "0.5"}`.
        data: what the page of the reader's own data begins with; that page is opened then.
        host: address to listen at; other than loopback, the link has a token.
        port: number of the port, 0 for any that is free.
        browser: whether to open the page in the browser.
        framed_by: origins whose pages may show this one inside.
        ready: is called with the address; by default it is printed.
        until: returns when the server should end; runs in a thread of its own.

    Raises:
        InputError: the extra `play` is not installed, or the address can't be listened at.
    """
    check_installed()
    listening = listen(host, port)
    from dampen.play import _server  # NiceGUI and torch take a while

    _server.run(
        query or {},
        data=data,
        listening=listening,
        host=host,
        browser=browser,
        framed_by=framed_by,
        ready=ready or _print,
        until=until,
    )


def check_installed() -> None:
    """Refuse to go on without NiceGUI.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("nicegui") is None:
        raise InputError("the page needs NiceGUI, which is not installed: pip install 'dampen[play]'")


def _print(address: str) -> None:
    print(f"{address}\nCtrl-C ends it.", flush=True)
