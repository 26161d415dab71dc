"""A whole study as a page: data and a time, the search live, the verdict; studies that are there opened and resumed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Response
from nicegui import app, ui

from dampen._language import speaking
from dampen.data import NAMES, Data, is_here
from dampen.errors import InputError
from dampen.play import _runs, _tune_charts
from dampen.play._chooser import Chooser
from dampen.play._drawn import drawn
from dampen.play._elements import chart, notes_of, patch, title
from dampen.play._runs import Point
from dampen.play._shell import Page, Visit
from dampen.play._studying import StudyDone, StudyFailed, Studying, StudyNow
from dampen.play._text import language_of
from dampen.study import Study

_BUDGETS = (30, 60, 120, 300, 900, 3600, 0)  # seconds; 0: none
_USUAL_BUDGET = 60
_SIZES = ("n_settings", "n_seeds", "epochs", "n_confirm_seeds", "confirmed")  # that an address may ask for
_MOST = 10_000
_AGAIN = 2.0  # seconds between two looks at the folders
# A report is a page of its own: it may run its scripts, and reach nothing of this one.
_SANDBOX = {"Content-Security-Policy": "sandbox allow-scripts allow-popups"}


@app.get("/runs/{name}/report")
def _report(name: str, lang: str = "") -> Response:
    try:
        with speaking(language_of(lang, "")):
            return Response(_runs.report(name), media_type="text/html", headers=_SANDBOX)
    except InputError as e:
        return Response(f"{e}\n", status_code=404, media_type="text/plain")


class _TunePage:
    """One tab's study.

    Args:
        visit: the tab.
    """

    def __init__(self, visit: Visit):
        self.visit, self.text = visit, visit.text
        self.data: Data | None = None
        self.studying: Studying | None = None
        self._notes: list[str] = []
        self._sizes, self._hidden = self._asked()
        self._asked_time = self._asked_budget()
        self._listed: list[_runs.Run] = []

    def build(self) -> None:
        """Make the page."""
        text = self.text
        notes_of(self.text, self._notes)
        sets = [name for name in NAMES if name not in _PUBLISHED or is_here(name)]
        self._chooser = Chooser(self.visit, sets, self._chosen)
        with ui.element("div").classes("dampen-page"):
            with ui.element("section").classes("dampen-column"):
                with ui.element("div").classes("dampen-card"):
                    ui.label(text("tune.about")).classes("dampen-small")
                    self._chooser.build()
                    self._budget = ui.select(
                        {seconds: self._time(seconds) for seconds in _BUDGETS},
                        value=self._asked_time,
                        label=text("tune.budget"),
                        on_change=lambda _: self._keep(),
                    )
                    self._budget.props("dense options-dense").classes("w-full")
                    self._budget.set_visibility(not self._sizes)  # which say how long it takes
                    with ui.row().classes("gap-2 mt-2"):
                        self._start = ui.button(text("tune.start"), icon="play_arrow", on_click=self._begin)
                        self._stop = ui.button(text("tune.stop"), icon="stop", on_click=self._end).props("outline")
                with ui.element("div").classes("dampen-card dampen-last"):
                    title(text("tune.runs"))
                    self._list = ui.column().classes("w-full gap-1")
            with ui.element("section").classes("dampen-column"):
                self._results()
        self._show_buttons()
        self._show_runs()
        self._chooser.start()
        ui.timer(_AGAIN, self._look_again)

    def _results(self) -> None:
        text = self.text
        with ui.element("div").classes("dampen-card").props("role=status"):
            title(text("tune.progress"))
            self._now = ui.label(text("tune.idle"))
            self._bar = ui.linear_progress(value=0, show_value=False).props("instant-feedback rounded size=8px")
            self._bar.props["aria-label"] = text("tune.progress")
            self._failure = ui.label().classes("text-negative").props("role=alert")
        with ui.element("div").classes("dampen-card") as self._verdict_card:
            title(text("tune.verdict"))
            self._verdict = ui.column().classes("w-full gap-1")
        self._verdict_card.set_visibility(False)
        self._picture = chart("search", text("tune.search"), _tune_charts.search(text), text("tune.search.note"))
        self._chooser.build_columns()

    def _asked(self) -> tuple[dict[str, int], list[int] | None]:
        """Return the sizes and widths that the address asks for: small studies, for lessons."""
        found: dict[str, int] = {}
        for name in (*_SIZES, "hidden"):
            text = self.visit.query.get(name)
            if text is None:
                continue
            if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= _MOST:
                found[name] = int(text)
            else:
                self._notes.append(f"{name} must be a whole number from 1 to {_MOST}, got {text[:40]!r}: left out")
        hidden = found.pop("hidden", None)
        return found, None if hidden is None else [hidden]

    def _asked_budget(self) -> int:
        text, allowed = self.visit.query.get("budget"), {str(seconds): seconds for seconds in _BUDGETS}
        if text is not None and text not in allowed:
            note = f"budget must be one of {', '.join(allowed)}, got {text[:40]!r}: {_USUAL_BUDGET} is used"
            self._notes.append(note)
        return allowed.get(text or "", _USUAL_BUDGET)

    def _time(self, seconds: int) -> str:
        if seconds == 0:
            return self.text("tune.budget.none")
        if seconds == 3600:
            return self.text("tune.budget.hour")
        if seconds == 60:
            return self.text("tune.budget.minute")
        unit, n = ("seconds", seconds) if seconds < 60 else ("minutes", seconds // 60)
        return self.text(f"tune.budget.{unit}", n=n)

    def _keep(self) -> None:
        kept = {name: str(n) for name, n in self._sizes.items()}
        kept["hidden"] = "" if self._hidden is None else str(self._hidden[0])
        kept["data"] = str(self._chooser.name or "")
        kept["budget"] = "" if self._budget.value == _USUAL_BUDGET else str(self._budget.value)
        self.visit.keep({name: value for name, value in kept.items() if value})

    def _chosen(self, data: Data | None) -> None:
        self.data = data
        self._keep()
        self._show_buttons()

    def _show_buttons(self) -> None:
        self._start.set_enabled(self.data is not None and self.studying is None)
        self._stop.set_enabled(self.studying is not None)
        self.visit.busy = None if self.studying is None else self.text("tune.busy")

    def _begin(self) -> None:
        """Begin a study of the chosen data."""
        if self.data is not None and self.studying is None:
            budget = self._budget.value or None
            options = dict(self._sizes) if self._sizes else {"budget": budget}
            self._run(self.data, _runs.new_folder(self.data), options)

    async def _resume(self, name: str) -> None:
        """Go on with a study."""
        if self.studying is not None:
            return
        try:
            folder, data, options = await asyncio.to_thread(_runs.to_resume, name, self.data)
        except InputError as e:
            self._refuse(e)
            return
        if self.studying is None and not self.visit.client.is_deleted:
            self._run(data, folder, options | {"resume": True})

    def _run(self, data: Data, folder: Path, options: dict[str, Any]) -> None:
        self._failure.set_text("")
        self._verdict_card.set_visibility(False)
        self._now.set_text(self.text("tune.starting", name=folder.name))
        self._bar.set_value(0)
        patch(self._picture, _tune_charts.search_now([]))
        self.studying = Studying(data, folder, self._hidden, options, self.text.language)
        drawn(self.visit, self.studying, self._show_of(self.studying), self._full)
        self._show_buttons()
        self._show_runs()

    def _end(self) -> None:
        """Stop; what there is stays in the folder."""
        if self.studying is not None:
            self.studying.end()
            self._now.set_text(self.text("tune.stopped", name=self.studying.folder.name))
            self.studying = None
            self._show_buttons()
            self._show_runs()

    def _full(self) -> None:
        """Take back a study for which there is no room."""
        self.studying = None
        self._now.set_text(self.text("tune.idle"))
        self._show_buttons()
        self._show_runs()

    def _refuse(self, error: InputError) -> None:
        """Tell why a study can't be shown or go on, with nothing of another one beside that line."""
        if self.visit.client.is_deleted:
            return
        self._verdict_card.set_visibility(False)
        self._verdict.clear()
        if self.studying is None:
            self._now.set_text(self.text("tune.idle"))
            self._bar.set_value(0)
            patch(self._picture, _tune_charts.search_now([]))
        self._fail(" ".join(str(error).split()))

    def _fail(self, line: str) -> None:
        self._failure.set_text(self.text.line(line))

    def _show_of(self, studying: Studying) -> Callable[[Any], None]:
        """Return what draws where one study is, as long as it is the tab's."""

        def show(now: StudyNow | StudyDone | StudyFailed) -> None:
            if studying is not self.studying:
                return
            if isinstance(now, StudyNow):
                self._show(now)
                return
            studying.end()
            self.studying = None
            self._show_buttons()
            self._show_runs()
            if isinstance(now, StudyFailed):
                self._now.set_text(self.text("tune.idle"))
                self._fail(now.message)
            else:
                self._bar.set_value(1)
                ui.timer(0, lambda: self._open(now.name, now.notes), once=True)

        return show

    def _show(self, now: StudyNow) -> None:
        text = self.text
        counts = {"members": now.members, "epochs": now.epochs, "seconds": f"{now.seconds:.0f}"}
        line = text("tune.now", phase=text(f"tune.phase.{now.phase}"), **counts)
        line += "" if now.best is None else text("tune.best", best=f"{now.best:.4g}")
        line += "" if now.left is None else text("tune.left", left=f"{now.left:.0f}")
        self._now.set_text(line)
        self._bar.set_value(round(now.share, 3))
        if now.points is not None:
            patch(self._picture, _tune_charts.search_now(now.points))

    async def _open(self, name: str, notes: tuple[str, ...] = ()) -> None:
        """Show a finished study."""
        try:
            study, points, chosen = await asyncio.to_thread(_runs.opened, name)
        except InputError as e:
            self._refuse(e)
            return
        if not self.visit.client.is_deleted:
            with self.visit.client:
                self._show_study(name, study, points, chosen, notes)

    def _show_study(self, name: str, study: Study, points: list[Point], chosen: Point, notes: tuple[str, ...]) -> None:
        self._failure.set_text("")
        if self.studying is None:
            self._now.set_text(f"{name}: {self.text('tune.finished')}")
        self._verdict.clear()
        first, *others = study.sentences()
        with self._verdict:
            ui.label(self.text.line(first)).classes("text-lg")  # the words of the command line
            ui.link(self.text("tune.report"), f"/runs/{quote(name)}/report?lang={self.text.language}", new_tab=True)
            for sentence in (*others, *notes):
                ui.label(self.text.line(sentence)).classes("dampen-small")
        self._verdict_card.set_visibility(True)
        patch(self._picture, _tune_charts.search_now(points, chosen))

    async def _look_again(self) -> None:
        """List the studies anew where another process has begun or ended one."""
        if await asyncio.to_thread(_runs.runs) != self._listed and not self.visit.client.is_deleted:
            self._show_runs()

    def _show_runs(self) -> None:
        text, found = self.text, _runs.runs()
        self._listed = found
        running = self.studying.folder.name if self.studying is not None else None
        self._list.clear()
        with self._list:
            if not found:
                ui.label(text("tune.runs.none")).classes("dampen-small")
            for run in found:
                if run.name == running:
                    continue
                with ui.row().classes("w-full items-center justify-between no-wrap"):
                    ui.label(f"{run.name}, {text(f'tune.{run.state}')}").classes("dampen-small").style(
                        "overflow-wrap: anywhere"
                    )
                    if run.state == "running":
                        continue
                    act, act_on = ("open", self._open) if run.state == "finished" else ("resume", self._resume)
                    button = ui.button(text(f"tune.{act}"), on_click=lambda _, f=act_on, n=run.name: f(n))
                    button.props("flat dense no-caps").props["aria-label"] = f"{text(f'tune.{act}')} {run.name}"


_PUBLISHED = ("fashion-mnist", "mnist")


def build(visit: Visit) -> None:
    """Make the page."""
    _TunePage(visit).build()


PAGE = Page("/tune", "tune.title", build, (*_SIZES, "hidden", "budget", "data"))
