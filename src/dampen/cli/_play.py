"""`dampen play`: the page where regularisation is seen to happen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dampen.cli import _data, _options
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.data import Data

_PAGE = "Page"


@_data.takes_data
def command(
    reading: dict[str, Any],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A shape of points (moons, circles, spiral, xor, blobs, curve), or data of your own as in tune.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, _options.option("Port to listen at; 0 takes one that is free.", panel=_PAGE)] = 0,
    host: Annotated[
        str, _options.option("Address to listen at; other than this machine's own, the link has a token.", panel=_PAGE)
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.", rich_help_panel=_PAGE)
    ] = True,
) -> None:
    """Open a page on which networks train with and without regularisation while you move the sliders.

    Ctrl-C ends it.
    """
    from dampen.play import POINTS, check_installed, serve

    check_installed()
    if data is None or data in POINTS:
        for name in _data.given(reading):
            raise InputError(f"--{name.replace('_', '-')} is for data of your own: name its file or folder first")
        serve({} if data is None else {"points": data}, host=host, port=port, browser=browser)
    else:
        serve(data=_read(data, reading, POINTS), host=host, port=port, browser=browser)


def _read(data: str, reading: dict[str, Any], shapes: Sequence[str]) -> "Data":
    try:
        return _data.read(data, reading)
    except InputError as e:
        said, is_neither, others = str(e).partition(f"{data!r} is neither a data set nor a folder; ")
        if said or not is_neither:
            raise
        raise InputError(
            f"{data!r} is no shape, data set or folder; the shapes are {', '.join(shapes)}; {others}"
        ) from None
