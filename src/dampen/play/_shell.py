"""What all pages have in common: language, dark mode, the links to the others, and the address that keeps them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from nicegui import Client, background_tasks, ui

from dampen.play._elements import notes_of
from dampen.play._text import LANGUAGES, Text, language_of

_SOON = 0.3  # seconds between two addresses of a page
_KEPT = ("lang", "dark")  # fields of the address that every page keeps
_LONGEST, _MOST_NOTES = 40, 5  # letters of a value in a note; notes of an address
HEAD = "dampen-head"  # marks what is above every page
_DARK: Mapping[str, bool | None] = {"": None, "1": True, "0": False}

STYLE = """
body { overflow-x: hidden; }
.dampen-page { width: 100%; max-width: 1500px; margin: 0 auto; display: grid; gap: 12px;
  grid-template-columns: minmax(260px, 320px) minmax(0, 1fr); align-items: start; }
.dampen-column { display: flex; flex-direction: column; gap: 10px; min-width: 0; width: 100%; }
.dampen-pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 12px; width: 100%; }
.dampen-card { width: 100%; padding: 10px 12px; border: 1px solid rgba(128,128,128,.35); border-radius: 8px; }
.dampen-card h2, .dampen-title { font-size: .95rem; font-weight: 600; margin: 0; line-height: 1.4; }
.dampen-small { font-size: .85rem; opacity: .85; }
.dampen-surface { position: relative; width: 100%; aspect-ratio: 1; border-radius: 4px; overflow: hidden; }
.dampen-surface > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.dampen-chart { width: 100%; height: 240px; }
:focus-visible { outline: 3px solid #56b4e9; outline-offset: 2px; }
@media (max-width: 700px) { .dampen-page { display: flex; flex-direction: column; gap: 10px; }
  .dampen-column { display: contents; } .dampen-surfaces { grid-template-columns: 1fr 1fr; gap: 6px; }
  .dampen-second { order: 2; } .dampen-third { order: 3; } .dampen-fourth { order: 4; } .dampen-last { order: 5; }
  .dampen-chart { height: 200px; } .nicegui-content { padding: 8px; } }
"""


@dataclass
class Visit:
    """One tab on one page.

    Args:
        text: in the reader's language.
        query: the fields of the address, as they came; `keep` changes the address.
        client: NiceGUI's: what runs later in the tab's name does so within `with visit.client:`.
        path: of the page.
        data: a `dampen.data.Data` that the command was given, or None.
    """

    text: Text
    query: dict[str, str]
    client: Client
    path: str
    data: Any = None
    dark: ui.dark_mode = field(init=False)
    busy: str | None = field(default=None, init=False)  # why the page should not be left for another language now
    _due: bool = field(default=False, init=False)

    def keep(self, query: Mapping[str, str]) -> None:
        """Let the address name these fields, beside language and dark mode, without loading the page again."""
        self.query = self._kept | dict(query)
        if not self._due:  # browsers refuse to take an address too often, as a slider that is drawn would give it
            self._due = True
            background_tasks.create(self._write(), name="dampen-address")

    async def _write(self) -> None:
        await asyncio.sleep(_SOON)
        self._due = False
        if not self.client.is_deleted:
            with self.client:
                ui.navigate.history.replace(self.address())

    def link(self, query: Mapping[str, str], path: str | None = None) -> str:
        """Return the address of this page, or of another one, with these fields beside language and dark mode."""
        return _with_query(self.path if path is None else path, self._kept | dict(query))

    @property
    def _kept(self) -> dict[str, str]:
        return {name: self.query[name] for name in _KEPT if name in self.query}

    def address(self, **changed: str) -> str:
        """Return the page's address with some fields replaced."""
        return _with_query(self.path, {name: value for name, value in {**self.query, **changed}.items() if value})


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return path + (f"?{urlencode(query)}" if query else "")


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        path: of its address, `/decay`.
        title: key of its title's text.
        build: fills it; what it makes is the tab's own.
        fields: that its address may have, beside language and dark mode.
    """

    path: str
    title: str
    build: Callable[[Visit], Awaitable[None] | None]
    fields: Collection[str] = ()


def register(page: Page, pages: Sequence[Page], data: Any = None) -> None:
    """Let the server answer at a page's path.

    Args:
        page: which.
        pages: all that there are.
        data: what the command was given.
    """

    @ui.page(page.path)
    async def answer(request: Request, client: Client) -> None:
        query, notes = read_query(request.query_params.multi_items(), page.fields)
        text = Text(language_of(query.get("lang"), request.headers.get("accept-language", "")))
        visit = Visit(text, query, client, page.path, data)
        ui.page_title(f"{text(page.title)} · dampen")
        ui.add_css(STYLE)
        _head(visit, page, pages)
        notes_of(text, notes)
        if notes:
            ui.navigate.history.replace(visit.address())
        done = page.build(visit)
        if done is not None:
            await done


def read_query(given: Iterable[tuple[str, str]], fields: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Read an address's fields; whether a page can use what its own say is for the page to tell.

    Args:
        given: names and values, as they came.
        fields: that the page has, beside language and dark mode.

    Returns:
        The fields, and a line on each one that was not used.
    """
    query: dict[str, str] = {}
    notes = []
    for name, value in given:
        shown = value[:_LONGEST]
        if name == "token":
            continue
        if name not in (*_KEPT, *fields):
            notes.append(f"{name[:_LONGEST]!r} is nothing that this page has: left out")
        elif name == "lang" and value not in LANGUAGES:
            notes.append(f"lang must be one of {', '.join(LANGUAGES)}, got {shown!r}: left out")
        elif name == "dark" and value not in _DARK:
            notes.append(f"dark must be 0 or 1, got {shown!r}: left out")
        else:
            if name in query:
                notes.append(f"{name} is given more than once: {shown!r} is used, not {query[name][:_LONGEST]!r}")
            query[name] = value
    return query, notes[:_MOST_NOTES]


def _head(visit: Visit, page: Page, pages: Sequence[Page]) -> None:
    text = visit.text
    ui.add_head_html(f'<script>document.documentElement.lang = "{text.tag}"</script>')
    if "token" in visit.client.request.query_params:  # it is in the cookie now, and need not be passed on
        ui.navigate.history.replace(visit.address())
    visit.dark = ui.dark_mode(_DARK.get(visit.query.get("dark", ""), None))
    with ui.row().classes("w-full items-center gap-4 max-w-[1500px] mx-auto").props("role=banner").mark(HEAD):
        ui.label("dampen").classes("text-xl font-bold")
        with ui.row().classes("gap-3").props(f'role=navigation aria-label="{text("shell.pages")}"'):
            for other in pages:
                link = ui.link(text(other.title), visit.link({}, other.path))
                if other.path == page.path:
                    link.classes("font-semibold").props("aria-current=page")
        ui.space()
        for language, name in LANGUAGES.items():
            if language != text.language:
                ui.button(name, on_click=lambda _, to=language: _turn_language(visit, to)).props(
                    f"flat dense no-caps lang={language}"
                )
        ui.button(icon="contrast", on_click=lambda: _turn_dark(visit)).props(
            f'flat dense round aria-label="{text("shell.dark")}"'
        )


def _turn_language(visit: Visit, language: str) -> None:
    if visit.busy is not None:
        ui.notify(visit.busy, type="warning", timeout=10_000, close_button=True)
        return
    ui.navigate.to(visit.address(lang=language))


async def _turn_dark(visit: Visit) -> None:
    is_dark = await ui.run_javascript("document.body.classList.contains('body--dark')")
    visit.dark.set_value(not is_dark)
    visit.query["dark"] = "0" if is_dark else "1"
    ui.navigate.history.replace(visit.address())
