"""The page that reports are: one HTML file that opens without a network, and whose texts are texts.

A study's folder is not trusted, so no text from it becomes HTML: pages are made by templates that escape
what is put into them, and `label` does so for plotly, which reads tags in its texts too.
"""

import html
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dampen._html import is_page
from dampen._io import refuse_foreign
from dampen._language import part, shown, tag
from dampen.errors import InputError
from dampen.study import worth_saying
from dampen.study._storage import Folder

if TYPE_CHECKING:
    import plotly.graph_objects as go

STUDY, TRUST = "report.html", "trust.html"  # what pages are called in a study's folder
_CLEAR, _GRID = "rgba(0,0,0,0)", "rgba(128,128,128,0.22)"
_DARK = (  # single colours of the figures, and what stands for them on a dark page, the first as browsers write styles
    ("rgb(0, 114, 178)", "#56b4e9"),
    ("rgb(213, 94, 0)", "#ff8c42"),
    ("rgb(0, 158, 115)", "#2fc79a"),
    ("rgb(0, 0, 0)", "#ffffff"),
    ("rgb(68, 68, 68)", "#bbbbbb"),
    ("rgb(42, 63, 95)", "#bbbbbb"),  # plotly's own of lines
    ("rgb(119, 119, 119)", "#a8a8a8"),
)
_LONGEST = 60  # letters of a label: longer ones take a picture's room
_LINE, _MOST_LINES = 42, 12  # letters of a line, and lines, of a setting that a pointer shows
_KEPT = "\u00a0"  # a space at which lines do not break


def render(template: str, **values: Any) -> Markup:
    """Return HTML by a template of this folder: values are escaped, but for those that are HTML already."""
    return Markup(_templates().get_template(template).render(**values))


@cache
def _templates() -> Environment:
    loader = PackageLoader("dampen.report")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["_"] = shown
    return made


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page; sections are HTML of `render`, empty ones are left out.

    Raises:
        InputError: it can't be written.
    """
    parts = [section for section in sections if section]
    page = render("page.html", title=title, sections=parts, language=tag(), plotly=Markup(_script()), dark=_DARK)
    Folder(path.parent).write(path.name, lambda file: file.write_text(page, encoding="utf-8"))


@cache
def _script() -> str:
    """Return plotly's basic bundle: a quarter of the whole, with all that pages draw."""
    return files("dampen.report").joinpath("assets", "plotly-basic.min.js").read_text(encoding="utf-8")


def check_page(path: Path, own: str) -> None:
    """Make sure that a page takes no other file's place.

    Args:
        path: of the HTML file.
        own: what the page is called in a study's folder, `STUDY` or `TRUST`.

    Raises:
        InputError: there is a folder, or a file that is no page of dampen's, of that name, or it is the study's other
            page.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file for the page")
    in_study = (path.parent / "study.json").is_file()
    if in_study and path.name != own and path.name in (STUDY, TRUST):
        raise InputError(f"{path} is the name of another page of the study: choose another name")
    refuse_foreign(path, is_page, "no page")


def styled(figure: "go.Figure") -> "go.Figure":
    """Return a picture in the style of all pages."""
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 20, "t": 28, "b": 60})
    figure.update_layout(font={"family": "system-ui, sans-serif", "size": 13, "color": "#111"})
    figure.update_layout(paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR)  # a dark page shows through
    box = {"bgcolor": "white", "bordercolor": "#888", "font": {"color": "#111"}, "align": "left"}
    figure.update_layout(hoverlabel=box)
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(gridcolor=_GRID, zerolinecolor=_GRID)
    return figure


def embed(figure: "go.Figure", name: str, title: str = "", note: str = "") -> Markup:
    """Return a picture as HTML, with its title and note if it has any; `name` identifies it on the page."""
    figure = styled(figure)
    config = {"displayModeBar": False, "responsive": True}
    inner = figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=f"figure-{name}")
    return render("figure.html", title=title, figure=Markup(inner), note=note)  # plotly escapes what its script holds


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Args:
        name: identifies it on the page.
        figure: itself; None where nothing can be drawn, and the note tells why.
        title: heading above it, if it has one.
        note: what it shows, below it.
    """

    name: str
    figure: "go.Figure | None"
    title: str = ""
    note: str = ""

    def html(self) -> Markup:
        """Return it as a part of a page."""
        if self.figure is None:
            return render("note.html", note=self.note) if self.note else Markup("")
        return embed(self.figure, self.name, self.title, self.note)


def label(value: object) -> str:
    """Return a value as a text of plotly that shows it, cut where it is long."""
    text = str(value)
    return html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", quote=False)


def setting_lines(setting: dict[str, Any]) -> str:
    """Return a setting in words for what a pointer shows: whole but for very long ones, in lines of a phone's width."""
    parts = [setting_text({name: value}) for name, value in worth_saying(setting).items()] or [setting_text({})]
    text = re.sub(r"(?<!,) ", _KEPT, ", ".join(parts))  # a knob and its value stay together
    lines = textwrap.wrap(text, _LINE, max_lines=_MOST_LINES, placeholder=" …", break_on_hyphens=False)
    return "<br>".join(html.escape(line.replace(_KEPT, " "), quote=False) for line in lines)


def hover(*lines: str) -> str:
    """Return plotly's template of what a pointer shows: lines that are escaped already, and nothing beside them."""
    return "<br>".join(line for line in lines if line) + "<extra></extra>"


def words(name: str) -> str:
    """Return a knob's name as sentences have it; not escaped."""
    return shown(_english(name))


def _english(name: str) -> str:
    return "learning rate" if name == "lr" else name.replace("_", " ")


def setting_text(setting: dict[str, Any]) -> str:
    """Return a setting in words; not escaped."""
    text = ", ".join(part(f"{_english(name)} {short(value)}") for name, value in worth_saying(setting).items())
    return text or shown("the network as it is")


def short(value: Any) -> str:
    """Return a knob's value: a number, a word, or one for each layer; not escaped."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{layer}: {short(rate)}" for layer, rate in value.items()) + ")"
    if isinstance(value, list | tuple | np.ndarray):
        return "(" + ", ".join(short(part) for part in value) + ")"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def with_ends(value: float, ends: Iterable[float | None] | None, sign: str = "") -> str:
    """Return a number with its interval, if it has one."""
    known = [_number(end, sign) for end in ends or () if end is not None]
    return _number(value, sign) + (f" ({part(' to '.join(known))})" if len(known) == 2 else "")


def _number(value: float, sign: str) -> str:
    if not value:
        return "0"
    return f"{value:{sign}.0f}" if 1000 <= abs(value) < 1e7 else f"{value:{sign}.3g}"


def n_epochs(n: int) -> str:
    """Return a number of epochs in words."""
    return shown(f"{n:d} epoch{'s' * (n != 1)}")


def faint(colour: str) -> str:
    """Return a colour for a band behind a line of it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
