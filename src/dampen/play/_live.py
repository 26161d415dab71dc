"""A training in a process of its own: the page steers it and gets what there is to see, many times a second."""

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol, runtime_checkable

from dampen.errors import InputError

FRAMES = 15  # snapshots a second at most
_IN_FLIGHT = 2  # snapshots: one is drawn while the next one is made
_PATIENCE = 2.0  # seconds that a process has to end by itself
_PRELOADED = ["dampen.play._training", "scipy.stats"]


@runtime_checkable
class Training(Protocol):
    """What a process trains."""

    @property
    def speed(self) -> int | float:
        """Steps a second at most."""
        ...

    def advance(self) -> None:
        """Take a step."""
        ...

    def change(self, what: Any, /) -> None:
        """Take what the page has been set to."""
        ...

    def reset(self) -> None:
        """Start again."""
        ...

    def snapshot(self) -> Any:
        """Return what there is to see now."""
        ...


@dataclass(frozen=True)
class Failure:
    """A training that can't go on, in one line."""

    message: str


Command = Literal["start", "pause", "step", "reset", "taken", "end"]


class Live:
    """A training in a process of its own.

    It sends no more than a snapshot or two before the first one is `taken`, so that a slow page is never behind. A
    process that is paused waits and takes no processor time.

    Args:
        make: makes the training; a function at the top of a module.
        arguments: that it takes.
    """

    def __init__(self, make: Callable[..., Training], *arguments: Any):
        self._make, self._arguments = make, arguments
        self._connection: Connection | None = None
        self._process: Any = None
        self._waiting: list[tuple[str, Any]] = []
        self._ended = False

    @property
    def pid(self) -> int | None:
        """Number of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def ended(self) -> bool:
        """Whether the page has ended it."""
        return self._ended

    async def start(self, show: Callable[[Any], object]) -> None:
        """Start the process.

        Args:
            show: is called, in this event loop, with each snapshot, and with a `Failure`.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._start)
        threading.Thread(target=self._read, args=(loop, show), name="dampen-play", daemon=True).start()
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._send(command)
        if self._ended:  # the tab closed meanwhile
            self._send(("end", None))

    def send(self, command: Command) -> None:
        """Send a command."""
        self._send((command, None))

    def change(self, what: Any) -> None:
        """Send what the page has been set to."""
        self._send(("change", what))

    def end(self) -> None:
        """End the process, within seconds; the training is lost."""
        self._ended = True
        self._send(("end", None))

    def _start(self) -> None:
        context = method()
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, self._make, self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._connection = ours

    def _send(self, command: tuple[str, Any]) -> None:
        if self._connection is None:
            self._waiting.append(command)
            return
        with contextlib.suppress(OSError):  # it has ended
            self._connection.send(command)

    def _read(self, loop: asyncio.AbstractEventLoop, show: Callable[[Any], object]) -> None:
        assert self._connection is not None
        failed = False
        try:
            while True:
                snapshot = self._connection.recv()
                failed = isinstance(snapshot, Failure)
                loop.call_soon_threadsafe(show, snapshot)
        except (EOFError, OSError, RuntimeError):  # the process or the event loop has ended
            pass
        if not (self._ended or failed):
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(show, Failure("the training has ended by itself: load the page again"))
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
        self._connection.close()


def method() -> Any:
    """Return how processes are started: from one that has torch loaded, where the system can do that."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def preload() -> None:
    """Load what processes need, so that the first tab need not wait for it."""
    process = method().Process(target=_nothing, daemon=True)
    process.start()
    process.join()


def _nothing() -> None:
    pass


def _run(connection: Connection, make: Callable[..., Training], arguments: tuple[Any, ...]) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    torch.set_num_threads(1)  # members are small; the page needs the other cores
    with contextlib.suppress(EOFError, OSError):  # the page has gone
        try:
            _Loop(connection, make(*arguments)).run()
        except InputError as error:
            connection.send(Failure(" ".join(str(error).split())))


class _Loop:
    """Trains, takes commands between two steps, and sends snapshots.

    Args:
        connection: to the page.
        training: what is trained.
    """

    def __init__(self, connection: Connection, training: Training):
        self._connection, self._training = connection, training
        self._running = False
        self._changed = True  # whether there is something new to see
        self._free = _IN_FLIGHT  # snapshots that may be sent before the page takes one
        self._owed = 0.0  # steps that are due
        self._at = time.monotonic()  # when they were counted

    def run(self) -> None:
        """Go on until the page ends it."""
        frame = 1 / FRAMES
        while True:
            began, speed = time.monotonic(), self._training.speed
            self._owed = min(self._owed + speed * (began - self._at), max(1.0, 2 * speed * frame))
            self._at = began
            while self._running and self._owed >= 1 and time.monotonic() < began + frame:
                self._training.advance()
                self._owed -= 1
                self._changed = True
                if self._connection.poll() and not self._commands(0):
                    return
            if self._changed and self._free:
                self._connection.send(self._training.snapshot())
                self._changed = False
                self._free -= 1
            wait = max(0.0, began + frame - time.monotonic()) if self._running else None
            if not self._commands(wait):
                return

    def _commands(self, wait: float | None) -> bool:
        """Take the commands that there are, or that come; return whether to go on."""
        until = None if wait is None else time.monotonic() + wait
        while self._connection.poll(None if until is None else max(0.0, until - time.monotonic())):
            commands = [self._connection.recv()]
            while self._connection.poll():
                commands.append(self._connection.recv())
            for (command, what), (following, _) in zip(commands, [*commands[1:], ("", None)], strict=True):
                if command == "end":
                    return False
                if not command == following == "change":  # of a slider that is drawn along, the last place counts
                    self._take(command, what)
            until = time.monotonic()
        return True

    def _take(self, command: str, what: Any) -> None:
        if command == "taken":
            self._free += 1
            return
        self._changed = True
        if command in ("start", "pause"):
            self._running = command == "start"
        elif command == "step":
            self._training.advance()
        elif command == "reset":
            self._training.reset()
        elif command == "change":
            self._training.change(what)
