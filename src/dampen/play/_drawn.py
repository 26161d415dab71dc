"""A training that a tab draws: a snapshot at a time, and ended when the tab is closed."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from nicegui import ElementFilter, app, background_tasks, ui

from dampen.play._live import Failure, Live
from dampen.play._shell import HEAD, Visit

_MOST = 16  # trainings at once, of all tabs: each is a process
_ALL: set[Live] = set()
_NEVER = 60.0  # seconds after which a page that has not connected is given up
_DRAWN = "window.dampenFrames = (window.dampenFrames || 0) + 1; return document.hidden"
_UNSEEN = 0.5  # seconds between two snapshots of a tab that is in the background
_LATE = 5.0  # seconds after which a page that is silent is sent the next snapshot


def drawn(visit: Visit, live: Live, draw: Callable[[Any], object], refused: Callable[[], object] | None = None) -> None:
    """Start a training once the tab is connected, and let the tab draw its snapshots as fast as it can.

    Args:
        visit: the tab.
        live: what is trained.
        draw: brings a snapshot to the page; is called within the tab's client.
        refused: is called where too many trainings run; by default the page's buttons rest.
    """
    client = visit.client

    def end() -> None:
        _ALL.discard(live)
        live.end()

    client.on_delete(end)

    async def show(snapshot: Any) -> None:
        if client.is_deleted:
            return
        with client:
            if isinstance(snapshot, Failure):
                ui.notify(visit.text.line(snapshot.message), type="negative", timeout=0, close_button=True)
                return
            draw(snapshot)
            with contextlib.suppress(TimeoutError):  # the answer comes when the page has done all that came before
                if await ui.run_javascript(_DRAWN, timeout=_LATE):
                    await asyncio.sleep(_UNSEEN)
        live.send("taken")

    async def start() -> None:
        try:
            await client.connected(timeout=_NEVER)
        except TimeoutError:  # what asked for the page was no browser
            return
        if client.is_deleted:
            return
        if sum(not one.ended for one in _ALL) >= _MOST:
            with client:
                line = visit.text("shell.full", most=_MOST)
                ui.notify(line, type="negative", timeout=0, close_button=True)
                (refused or (lambda: _rest(visit, line)))()
            return
        _ALL.add(live)
        await live.start(lambda snapshot: background_tasks.create(show(snapshot), name="dampen-draw"))

    background_tasks.create(start(), name="dampen-start")


def _rest(visit: Visit, line: str) -> None:
    """Let a page whose training does not start say so, with nothing to press."""
    for label in ElementFilter(kind=ui.label, content=visit.text("lesson.starting")):
        label.set_text(line)
    for button in ElementFilter(kind=ui.button).not_within(marker=HEAD):
        button.set_enabled(False)


def _end_all() -> None:
    for live in list(_ALL):
        live.end()


app.on_shutdown(_end_all)
