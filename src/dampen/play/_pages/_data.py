"""The lesson on a reader's own table: all columns train, the surface is drawn over two that the reader picks."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nicegui import ui

from dampen.data import Data
from dampen.play import _own
from dampen.play._chooser import Chooser
from dampen.play._drawn import drawn
from dampen.play._elements import notes_of, title
from dampen.play._lesson import CHOICES, QUANTITIES
from dampen.play._live import Live
from dampen.play._own import Shown, Table
from dampen.play._pages._lesson import LessonPage
from dampen.play._shell import Page, Visit
from dampen.play._training import Snapshot

_SETS = ("iris", "wine", "breast-cancer", "diabetes")
_POINTS = {"classification": "moons", "regression": "curve"}  # a lesson's shapes, of the same task
_DRAWN = ("points", "noise", "n_points", "train_share")  # what a lesson says of points: nothing here
_FIELDS = tuple(name for name in (*CHOICES, *QUANTITIES) if name not in _DRAWN)


class _DataPage(LessonPage):
    """One tab's lesson on a table.

    Args:
        visit: the tab.
    """

    groups: Mapping[str, Sequence[str]] = MappingProxyType(
        {n: of for n, of in LessonPage.groups.items() if n != "data"}
    )

    def __init__(self, visit: Visit):
        super().__init__(visit)
        self.table: Table | None = None
        self.shown = (0, 1)
        self._named = [visit.query.get(axis) for axis in ("x", "y")]  # columns, by the address

    def build(self) -> None:
        """Make the page."""
        notes_of(self.text, self._notes)
        self._chooser = Chooser(self.visit, _SETS, self._chosen, _prepared)
        with ui.element("div").classes("dampen-page"):
            with ui.element("section").classes("dampen-column"):
                with ui.element("div").classes("dampen-card"):
                    self._chooser.build()
                self._left = ui.element("div").classes("dampen-column")
            with ui.element("section").classes("dampen-column"):
                self._right = ui.element("div").classes("dampen-column")
                self._chooser.build_columns()
        self._chooser.start()

    def _chosen(self, ready: tuple[Table, Shown] | None) -> None:
        """Begin a lesson on other data."""
        self.live.end()
        self.running, self.table = False, None
        self._left.clear()
        self._right.clear()
        if ready is None:
            self._keep()
            return
        table, shown = ready
        self.table, self.shown = table, self._asked(table, shown)
        self.lesson = replace(self.lesson, points=_POINTS[table.data.task])
        self.live = live = Live(_own.own_training, pickle.dumps(table), self.lesson, self.shown)
        with self._left:
            self._pick_columns()
            self._controls()
        with self._right:
            self._results()
        self._draw_points()
        self._keep()

        def show(snapshot: Snapshot) -> None:
            if live is self.live:
                self._show(snapshot)

        drawn(self.visit, live, show)

    def _asked(self, table: Table, usual: Shown) -> Shown:
        """Return the columns that the address names, where the table has them."""
        named, self._named = self._named, [None, None]  # it names those of the first table
        found, notes = list(usual), []
        for place, (axis, name) in enumerate(zip(("x", "y"), named, strict=True)):
            if name in table.names:
                found[place] = table.names.index(name)
            elif name is not None:
                used = table.names[usual[place]]
                notes.append(f"{axis} must be a column of {table.data.name}, got {name[:40]!r}: {used!r} is used")
        if found[0] == found[1]:
            one, used = table.names[found[0]], " and ".join(repr(table.names[j]) for j in usual)
            notes.append(f"x and y must be two columns, got {one!r} for both: {used} are used")
            found = list(usual)
        notes_of(self.text, notes)
        return found[0], found[1]

    def _pick_columns(self) -> None:
        assert self.table is not None
        text, options = self.text, dict(enumerate(self.table.names))
        with ui.element("div").classes("dampen-card"):
            title(text("data.columns"))
            for place, axis in enumerate(("x", "y")):
                pick = ui.select(
                    options,
                    value=self.shown[place],
                    label=text(f"data.{axis}"),
                    on_change=lambda event, at=place: self._pick(at, event.value),
                )
                pick.props("dense options-dense").classes("w-full")
            ui.label(text("data.others")).classes("dampen-small")
            if self.table.cut:
                n_train, n_test = len(self.table.data.train_rows), len(self.table.data.test_rows)
                ui.label(text("data.cut", n_train=n_train, n_test=n_test)).classes("dampen-small")

    def _pick(self, place: int, column: int) -> None:
        picked = list(self.shown)
        picked[place] = column
        self.shown = picked[0], picked[1]
        self._draw_points()
        self._keep()
        self.live.change((self.lesson, self.shown))

    def _results(self) -> None:
        super()._results()
        self._axes = []
        for surface in self._surfaces:
            with surface.parent_slot.parent if surface.parent_slot is not None else surface:
                self._axes.append(ui.label().classes("dampen-small").style("overflow-wrap: anywhere"))

    def _draw_points(self) -> None:
        """Draw the table's rows, anew when other columns are shown."""
        assert self.table is not None
        circles = _own.overlay(self.table, self.shown)
        x, y = (self.table.names[j] for j in self.shown)
        for overlay, line, axes in zip(self._overlays, self._lines, self._axes, strict=True):
            overlay.set_content(circles)
            line.set_visibility(False)
            axes.set_text(f"→ {x}   ↑ {y}")
        self._show_legend()
        self._smoothing.set_visibility(self.table.data.classes is not None)
        self._n_test = len(self.table.data.test_rows)

    def _set(self, name: str, value: Any) -> None:
        self.lesson = replace(self.lesson, **{name: value})
        if name in QUANTITIES:
            self._values[name].set_text(f"{value:g}")
            self._sliders[name].props["aria-valuetext"] = f"{value:g}"
        self._show_legend()
        self._keep()
        self.live.change((self.lesson, self.shown))

    def _show_legend(self) -> None:
        super()._show_legend()
        if self.table is not None and self.table.data.classes is None:
            kind = "mean" if self.lesson.surface == "mean" else "spread"
            self._legend.set_text(self.text("lesson.legend") + self.text(f"data.legend.{kind}"))

    def _examples(self) -> None:
        pass  # they are of points that are drawn

    def _keep(self) -> None:
        """Let the address name the lesson; a reader's own table can't be part of it."""
        query = {name: value for name, value in self.lesson.query().items() if name not in _DRAWN}
        if self._chooser.name is not None and self.table is not None:
            x, y = (self.table.names[j] for j in self.shown)
            query |= {"data": self._chooser.name, "x": x, "y": y}
        self.visit.keep(query)


def _prepared(data: Data) -> tuple[Table, Shown]:
    """Return the table and the columns that are shown at first."""
    table = _own.table_of(data)
    return table, table.telling()


def build(visit: Visit) -> None:
    """Make the page."""
    _DataPage(visit).build()


PAGE = Page("/data", "data.title", build, (*_FIELDS, "data", "x", "y"))
