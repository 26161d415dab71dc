"""The page inside a notebook: a server in a process of its own, and a frame that shows it."""

import atexit
import html
import json
import subprocess
import sys
from typing import Any

from dampen.errors import InputError
from dampen.play._serve import check_installed, serve

_FRAMED_BY = ("http://localhost:*", "http://127.0.0.1:*", "vscode-webview:")  # where notebooks are shown
_CHILD = "from dampen.play._notebook import child; child()"


class Shown:
    """A page that is shown: the value of a notebook's cell.

    Args:
        address: of the page.
        height: of the frame, in pixels.
    """

    def __init__(self, address: str, height: int, process: "subprocess.Popen[str]"):
        self.address, self._height, self._process = address, height, process
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"dampen play: {self.address}"

    def _repr_html_(self) -> str:
        address = html.escape(self.address, quote=True)
        return f'<iframe src="{address}" width="100%" height="{self._height}" style="border: 0"></iframe>'

    def close(self) -> None:
        """End the server and its training."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()  # the server ends when it can read no more
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        atexit.unregister(self.close)


def play(*, height: int = 900, **lesson: Any) -> Shown:
    """Show the page of `dampen play` inside a notebook, from a server on this machine.

    Args:
        height: of the frame, in pixels.
        lesson: what the page is set to: `points="spiral"`, `dropout=0.5`, `lang="zh"` and the other fields of its
            address.

    Returns:
        What the notebook shows; `.address` opens in a browser as well, `.close()` ends the server, as the end of the
        notebook does.

    Raises:
        InputError: a field that there is not or a value outside its range, or the extra `play` is not installed.
    """
    check_installed()
    from dampen.play._lesson import Lesson

    shell = {name: str(lesson.pop(name)) for name in ("lang", "dark") if name in lesson}
    unknown = [name for name in lesson if name not in Lesson.__dataclass_fields__]
    if unknown:
        raise InputError(f"a lesson has no {unknown[0]!r}; it has {', '.join(Lesson.__dataclass_fields__)}, lang, dark")
    query = {**Lesson(**lesson).query(), **shell}
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what interrupts a cell goes to the kernel's whole process group
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(query) + "\n")
    process.stdin.flush()
    address = process.stdout.readline().strip()
    if not address:
        raise InputError("the page's server has not started: dampen play in a terminal shows why")
    return Shown(address, height, process)


def child() -> None:
    """Serve the page that stdin describes, until stdin is closed."""
    query = json.loads(sys.stdin.readline())
    serve(
        query,
        browser=False,
        framed_by=_FRAMED_BY,
        ready=lambda address: print(address, flush=True),
        until=sys.stdin.read,
    )
