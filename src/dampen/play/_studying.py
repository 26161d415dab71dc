"""A whole study in a process of its own: it tells where it is, and ends at once when the page does; nothing is lost."""

import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dampen._language import speaking
from dampen.data import Data
from dampen.errors import InputError
from dampen.play import _live, _runs
from dampen.play._runs import Point

_BETWEEN = 0.3  # seconds between two reports of where a study is


@dataclass(frozen=True)
class StudyNow:
    """Where a study is.

    Args:
        phase: `search`, `confirmation` or `test`.
        share: of the whole study that is done.
        seconds: since it began.
        left: seconds that the rest should take; None while too little has been done to tell.
        members: that train now.
        epochs: for how many epochs.
        best: the metric of the best setting so far.
        points: the settings; None where nothing has changed.
    """

    phase: str
    share: float
    seconds: float
    left: float | None
    members: int
    epochs: int
    best: float | None
    points: list[Point] | None


@dataclass(frozen=True)
class StudyDone:
    """A study that is finished.

    Args:
        name: of its folder.
        notes: texts of warnings.
    """

    name: str
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class StudyFailed:
    """A study that can't go on, in one line."""

    message: str


class Studying(_live.Live):
    """A study in a process of its own.

    Args:
        data: what it is made on.
        folder: where it is kept.
        hidden: widths of the network; None: what suits the data.
        options: of `dampen.tune`.
        language: of the report.
    """

    def __init__(
        self,
        data: Data,
        folder: Path,
        hidden: Sequence[int] | None,
        options: Mapping[str, Any],
        language: str = "en",
    ):
        super().__init__(_never)
        self.folder = folder
        self._study = pickle.dumps(data), str(folder), hidden, dict(options), language

    def _start(self) -> None:
        context = _live.method()
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, *self._study), daemon=True)
        self._process.start()
        theirs.close()
        self._connection = ours


def _never() -> _live.Training:
    raise NotImplementedError


def _run(
    connection: Connection, data: bytes, folder: str, hidden: Sequence[int] | None, options: Any, language: str
) -> None:
    import torch

    from dampen.study import tune, usual_network

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))  # the page needs one
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: notes.append(" ".join(str(message).split()))
            read: Data = pickle.loads(data)  # from the page's own process
            study = tune(usual_network(read, hidden), read, out=folder, callback=_Teller(connection, folder), **options)
            with speaking(language):
                study.report(Path(folder) / "report.html")
        connection.send(StudyDone(Path(folder).name, tuple(dict.fromkeys(notes))))
    except InputError as error:
        connection.send(StudyFailed(" ".join(str(error).split())))
    except OSError:  # the page has gone
        return
    threading.Event().wait()  # until the page has read that


def _watch(connection: Connection) -> None:
    """End the process when the page says so or has gone: what a study has is in its folder at any moment."""
    try:
        while connection.recv()[0] != "end":
            pass
    except (EOFError, OSError):
        pass
    os._exit(0)


class _Teller:
    """Reports where a study is, some times a second.

    Args:
        connection: to the page.
        folder: of the study.
    """

    def __init__(self, connection: Connection, folder: str):
        self._connection, self._folder = connection, Path(folder)
        self._last, self._known = 0.0, (-1, -1)

    def __call__(self, at: Any) -> None:
        now = time.monotonic()
        if now - self._last < _BETWEEN:
            return
        self._last = now
        files = [self._folder / name for name in ("plan.json", "search.json")]
        known = tuple(file.stat().st_mtime_ns if file.exists() else -1 for file in files)
        points = _runs.in_progress(self._folder) if known != self._known else None
        self._known = known
        self._connection.send(StudyNow(at.phase, at.share, at.seconds, at.left, at.members, at.epochs, at.best, points))
