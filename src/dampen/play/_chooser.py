"""The choice of data: a built-in set, what the command was given, or an uploaded table with its target."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nicegui import events, ui

from dampen.data import Data, load
from dampen.errors import InputError
from dampen.play._elements import notes_of, title
from dampen.play._shell import Visit
from dampen.play._uploads import LARGEST_FILE, Uploads

_GIVEN, _OWN = "given", "own"  # options beside the sets' names
_MOST_COLUMNS = 200  # that are shown


class Chooser:
    """Lets a reader choose data, and shows how its columns are read.

    Args:
        visit: the tab.
        sets: names of built-in sets.
        chosen: is called with what `prepare` returns, and with None where a choice can't be used.
        prepare: makes of the data what the page needs, in a thread; may raise `InputError`.
    """

    def __init__(
        self,
        visit: Visit,
        sets: Sequence[str],
        chosen: Callable[[Any], object],
        prepare: Callable[[Data], Any] = lambda data: data,
    ):
        self.visit, self.text, self._chosen, self._prepare = visit, visit.text, chosen, prepare
        self._sets = list(sets)
        self._uploads = Uploads()
        visit.client.on_delete(self._uploads.remove)
        self._file: Path | None = None
        self._turn = 0  # of the choice: one that is overtaken is dropped

    def build(self) -> None:
        """Make the elements."""
        text = self.text
        title(text("chooser.title"))
        options = {name: name for name in self._sets}
        if self.visit.data is not None:
            options = {_GIVEN: self.visit.data.name, **options}
        asked = self.visit.query.get("data", "")
        first = asked if asked in options else next(iter(options))
        if asked and asked != first:
            note = f"data must be one of {', '.join(self._sets)}, got {asked[:40]!r}: {options[first]} is used"
            notes_of(self.text, [note])
        self._set = ui.select(options, value=first, label=text("chooser.set"), on_change=self._picked)
        self._set.props("dense options-dense").classes("w-full")
        upload = ui.upload(
            auto_upload=True,
            max_files=1,
            max_file_size=LARGEST_FILE,
            label=text("chooser.upload", size=LARGEST_FILE >> 20),
            on_upload=self._uploaded,
            on_rejected=lambda: self._show_error(text("chooser.rejected", size=LARGEST_FILE >> 20)),
        )
        ui.add_css(".q-uploader__list, .q-uploader__subtitle { display: none }")  # a table is read at once
        self._upload = upload.props("flat bordered accept='.csv,.tsv,.txt,.parquet,.feather,.xlsx'")
        self._upload.classes("w-full")
        self._target = ui.select([], label=text("chooser.target"), on_change=self._aimed)
        self._target.props("dense options-dense").classes("w-full")
        self._target.set_visibility(False)
        self._hint = ui.label(text("chooser.aim")).classes("dampen-small")
        self._hint.set_visibility(False)
        self._error = ui.label().classes("dampen-small text-negative").props("role=alert")
        self._error.set_visibility(False)

    def build_columns(self) -> None:
        """Make the card with the table of what was done to the columns."""
        with ui.element("div").classes("dampen-card dampen-last") as self._card:
            self._build_columns()
        self._card.set_visibility(False)

    def _build_columns(self) -> None:
        text = self.text
        title(text("chooser.columns"))
        self._about = ui.label().classes("dampen-small")
        names = ("column", "read", "becomes", "note")
        columns = [
            {"name": n, "label": text(f"chooser.columns.{n}"), "field": n, "align": "left", "style": _WRAP}
            for n in names
        ]
        with ui.element("div").style("max-height: 320px; overflow: auto; width: 100%"):
            self._columns = ui.table(rows=[], columns=columns, row_key="column")
            self._columns.props("dense flat").classes("w-full")
        self._data_notes = ui.label().classes("dampen-small").style("white-space: pre-line")

    @property
    def name(self) -> str | None:
        """The built-in set that is chosen; None where the data is the reader's own."""
        return self._set.value if self._set.value in self._sets else None

    def start(self) -> None:
        """Read what is chosen at first, once the tab is connected."""
        ui.timer(0, lambda: self._picked(None), once=True)

    async def _picked(self, _: Any) -> None:
        name = self._set.value
        if name == _OWN:
            return
        self._target.set_visibility(False)
        await self._read(lambda: self.visit.data if name == _GIVEN else load(name))

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        self._upload.reset()
        turn = self._turn
        try:
            file = self._uploads.place(event.file.name, event.file.size())
            await event.file.save(file)
            names = await asyncio.to_thread(self._uploads.columns, file)
        except InputError as e:
            self._show_error(str(e))  # what was chosen before stays
            return
        if turn != self._turn or self.visit.client.is_deleted:
            return
        self._turn += 1
        self._file = file
        options = {**self._set.options, _OWN: event.file.name[:80]} if isinstance(self._set.options, dict) else {}
        self._set.set_options(options, value=_OWN)
        usual = next((name for name in names if name.strip().lower() in _TARGETS), None)
        self._target.set_options(names, value=None)
        self._target.set_visibility(True)
        self._clear()
        if usual is not None:
            self._target.set_value(usual)
        else:
            self._hint.set_visibility(True)
            self._chosen(None)

    async def _aimed(self, _: Any) -> None:
        file, target = self._file, self._target.value
        if file is not None and target is not None:
            await self._read(lambda: self._uploads.read(file, target))

    async def _read(self, read: Callable[[], Data]) -> None:
        """Read data in a thread, show its columns and hand it on."""
        self._turn += 1
        turn = self._turn
        try:
            data, ready = await asyncio.to_thread(lambda: (found := read(), self._prepare(found)))
        except InputError as e:
            if turn == self._turn:
                self.refuse(" ".join(str(e).split()))
            return
        if turn == self._turn and not self.visit.client.is_deleted:
            self._clear()
            self._tell(data)
            self._chosen(ready)

    def _inputs(self, shape: Sequence[int]) -> str:
        if len(shape) == 3:
            return self.text("chooser.images", **dict(zip(("channels", "height", "width"), shape, strict=True)))
        return self.text("chooser.inputs", shape=" x ".join(map(str, shape)))

    def refuse(self, line: str) -> None:
        """Tell why a choice can't be used."""
        self._clear()
        self._show_error(line)
        self._chosen(None)

    def _show_error(self, line: str) -> None:
        self._error.set_text(self.text.line(line))
        self._error.set_visibility(True)

    def _clear(self) -> None:
        for element in (self._error, self._hint, self._card):
            element.set_visibility(False)

    def _tell(self, data: Data) -> None:
        self._card.set_visibility(True)
        about = {
            "name": data.name,
            "task": self.text(f"chooser.{data.task}"),
            "n_train": f"{len(data.train_rows):,}",
            "n_test": f"{len(data.test_rows):,}",
            "inputs": self._inputs(data.inputs),
        }
        self._about.set_text(self.text("chooser.about", **about))
        rows = data.columns.summary(data.outputs) if data.columns is not None else []
        names = () if rows else (data.feature_names or ())[:_MOST_COLUMNS]
        keys = ("column", "read", "becomes", "note")
        self._columns.update_rows(
            [dict(zip(keys, (name, *map(self.text.line, told)), strict=True)) for name, *told in rows[:_MOST_COLUMNS]]
        )
        self._columns.set_visibility(bool(rows))
        listed = [", ".join(names)] if names else []
        self._data_notes.set_text("\n".join([*listed, *(self.text.line(f"{note}.") for note in data.notes)]))


_TARGETS = ("target", "label", "class", "y", "outcome", "response")  # as `load` looks for it
_WRAP = "white-space: normal"
