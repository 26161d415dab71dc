"""Elements that several pages have: a titled chart, a slider with its value, lines that tell of a mistake."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nicegui import ui

from dampen.play._text import Text


def title(text: str) -> ui.label:
    """Make the title of a card."""
    return ui.label(text).classes("dampen-title").props("role=heading aria-level=2")


def chart(name: str, heading: str, option: dict[str, Any], note: str | None = None) -> ui.echart:
    """Make a card with a chart.

    Args:
        name: by which tests find it, `chart-NAME`.
        heading: above it.
        option: of ECharts.
        note: below it.
    """
    with ui.element("div").classes("dampen-card"):
        title(heading)
        found = ui.echart(option).classes("dampen-chart")
        found.props["role"] = "img"
        found.props["aria-label"] = heading
        if note:
            ui.label(note).classes("dampen-small")
    return found


def patch(found: ui.echart, option: dict[str, Any]) -> None:
    """Bring new values into a chart."""
    found.run_chart_method("setOption", option)


def slider(name: str, label: str, notches: Sequence[float], at: int, changed: Callable[[float], object]) -> ui.slider:
    """Make a slider over the notches, with its name and its value above it.

    Args:
        name: by which tests find it, `slider-NAME`.
        label: what the reader sees.
        notches: the values.
        at: number of the notch where it begins.
        changed: is called with the new value.
    """
    with ui.element("div").classes("w-full"):
        with ui.row().classes("w-full justify-between dampen-small no-wrap"):
            ui.label(label)
            value = ui.label(f"{notches[at]:g}")

        def moved(event: Any) -> None:
            now = notches[int(event.value or 0)]
            value.set_text(f"{now:g}")
            found.props["aria-valuetext"] = f"{now:g}"
            changed(now)

        found = ui.slider(min=0, max=len(notches) - 1, step=1, value=at, on_change=moved).props("dense")
        found.props["aria-label"] = label
        found.props["aria-valuetext"] = f"{notches[at]:g}"
    return found


def notes_of(text: Text, notes: Iterable[str]) -> None:
    """Tell what of an address was not used."""
    for note in notes:
        ui.notify(text.line(note), type="warning", timeout=10_000, close_button=True)
