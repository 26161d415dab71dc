"""The lesson: points of two inputs, a network with the chosen regularisation beside one without."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nicegui import ui

from dampen.play import _charts, _points
from dampen.play._drawn import drawn
from dampen.play._elements import notes_of
from dampen.play._lesson import CHOICES, QUANTITIES, Lesson, from_query
from dampen.play._live import Live
from dampen.play._shell import Page, Visit
from dampen.play._training import UNITS, Snapshot, lesson_training

_GROUPS = {
    "regularisation": ("weight_decay", "dropout", "l1", "label_smoothing"),
    "training": ("lr", "batch_size", "n_seeds", "speed"),
    "data": ("points", "noise", "n_points", "train_share"),
    "network": ("width", "depth"),
}
_EXAMPLES = {
    "few": Lesson(),
    "many": Lesson(n_points=1000, train_share=0.9),
    "curve": Lesson(points="curve", dropout=0.3),
    "xor": Lesson(points="xor", weight_decay=1.0, dropout=0.0),
}


class LessonPage:
    """One tab's lesson.

    Args:
        visit: the tab.
    """

    groups: Mapping[str, Sequence[str]] = _GROUPS  # of what the reader can set

    def __init__(self, visit: Visit):
        self.visit, self.text = visit, visit.text
        self.lesson, self._notes = from_query(visit.query)
        self.live = Live(lesson_training, self.lesson)
        self.running = False
        self._turns = 0
        self._values: dict[str, ui.label] = {}
        self._sliders: dict[str, ui.slider] = {}

    def build(self) -> None:
        """Make the page and start the process."""
        notes_of(self.text, self._notes)
        if self._notes:
            self.visit.keep(self.lesson.query())
        with ui.element("div").classes("dampen-page"):
            with ui.element("section").classes("dampen-column"):
                self._controls()
            with ui.element("section").classes("dampen-column"):
                self._results()
        self._draw_points()
        drawn(self.visit, self.live, self._show)

    def _controls(self) -> None:
        with ui.element("div").classes("dampen-card"):
            with ui.row().classes("gap-2 items-center"):
                self._start = ui.button(self.text("lesson.start"), icon="play_arrow", on_click=self._turn)
                ui.button(self.text("lesson.step"), on_click=self._step).props("outline")
                ui.button(self.text("lesson.reset"), on_click=self._reset).props("outline")
            self._progress = ui.label(self.text("lesson.starting")).classes("dampen-small")
        for group, names in self.groups.items():
            place = "dampen-third" if group == "regularisation" else "dampen-last"
            with ui.element("div").classes(f"dampen-card {place}"):
                ui.label(self.text(f"lesson.{group}")).classes("dampen-title").props("role=heading aria-level=2")
                for name in names:
                    self._choice(name) if name in CHOICES else self._slider(name)
        self._examples()
        ui.button(self.text("lesson.link"), icon="link", on_click=self._copy).props("flat no-caps").classes(
            "dampen-last"
        )

    def _examples(self) -> None:
        with ui.element("div").classes("dampen-card dampen-last"):
            ui.label(self.text("lesson.examples")).classes("dampen-title").props("role=heading aria-level=2")
            for name, lesson in _EXAMPLES.items():
                with ui.element("div"):
                    ui.link(self.text(f"lesson.examples.{name}"), self.visit.link(lesson.query()))

    def _slider(self, name: str) -> None:
        quantity, value = QUANTITIES[name], getattr(self.lesson, name)
        with ui.element("div").classes("w-full") as row:
            with ui.row().classes("w-full justify-between dampen-small no-wrap"):
                ui.label(self.text(f"lesson.{name}"))
                self._values[name] = ui.label(f"{value:g}")
            slider = ui.slider(
                min=0,
                max=len(quantity.notches) - 1,
                step=1,
                value=quantity.notch(value),
                on_change=lambda event: self._set(name, quantity.notches[int(event.value or 0)]),
            ).props("dense")
            slider.props["aria-label"] = self.text(f"lesson.{name}")
            slider.props["aria-valuetext"] = f"{value:g}"
            self._sliders[name] = slider
        if name == "label_smoothing":
            self._smoothing = row

    def _choice(self, name: str) -> None:
        options = {one: self.text(f"lesson.{name}.{one}") for one in CHOICES[name]}
        ui.select(
            options,
            value=getattr(self.lesson, name),
            label=self.text(f"lesson.{name}"),
            on_change=lambda event: self._set(name, event.value),
        ).props("dense options-dense").classes("w-full")

    def _results(self) -> None:
        text = self.text
        with ui.element("div").classes("dampen-card dampen-second").props("role=status aria-live=off"):
            ui.label(text("lesson.difference")).classes("dampen-title").props("role=heading aria-level=2")
            self._difference = ui.label().classes("text-lg")
            self._difference_note = ui.label().classes("dampen-small")
            ui.label(text("lesson.difference.once")).classes("dampen-small")
            self._accuracy = ui.label().classes("dampen-small")
        self._surfaces: list[ui.element] = []
        self._images: list[ui.element] = []
        self._overlays: list[ui.html] = []
        self._lines: list[ui.echart] = []
        with ui.element("div").classes("dampen-card dampen-second"):
            with ui.element("div").classes("dampen-pair dampen-surfaces"):
                for setting in ("none", "chosen"):
                    with ui.element("div"):
                        ui.label(text(f"lesson.{setting}")).classes("dampen-title")
                        with ui.element("div").classes("dampen-surface") as surface:
                            image = ui.element("img")
                            image.props["alt"] = text("lesson.alt", setting=text(f"lesson.{setting}"))
                            image.set_visibility(False)  # before the first frame
                            self._overlays.append(ui.html("", sanitize=False))  # of numbers only
                        self._surfaces.append(surface)
                        self._images.append(image)
                        line = ui.echart({}).classes("dampen-chart")
                        line.props["role"], line.props["aria-label"] = "img", image.props["alt"]
                        self._lines.append(line)
            with ui.row().classes("w-full items-end justify-between"):
                self._legend = ui.label().classes("dampen-small")
                with ui.element("div").classes("w-64") as self._surface_choice:
                    self._choice("surface")
        self._curves = self._chart("loss", _charts.curves(text), note="lesson.loss.note")
        with ui.element("div").classes("dampen-pair dampen-fourth"):
            self._norm = self._chart("norm", _charts.norm(text))
            self._histogram = self._chart("histogram", _charts.histogram(text))
            self._units = self._chart("kept", _charts.units(text), note="lesson.kept.note")

    def _chart(self, name: str, option: dict[str, Any], note: str | None = None) -> ui.echart:
        with ui.element("div").classes("dampen-card dampen-fourth"):
            ui.label(self.text(f"lesson.{name}")).classes("dampen-title").props("role=heading aria-level=2")
            chart = ui.echart(option).classes("dampen-chart")
            chart.props["role"] = "img"
            chart.props["aria-label"] = self.text(f"lesson.{name}")
            if note:
                ui.label(self.text(note, most=UNITS)).classes("dampen-small")
        return chart

    def _draw_points(self) -> None:
        """Draw the lesson's points, anew when they have changed."""
        points = _points.draw(self.lesson)
        flat = len(points.shown) == 2
        for surface, overlay in zip(self._surfaces, self._overlays, strict=True):
            surface.set_visibility(flat)
            overlay.set_content(_charts.overlay(points))
        for setting, line in zip(("none", "chosen"), self._lines, strict=True):
            line.set_visibility(not flat)
            if not flat:
                line.options.clear()
                line.options.update(_charts.line(self.text, setting, points))
                line.update()
        self._surface_choice.set_visibility(flat)
        self._show_legend()
        self._smoothing.set_visibility(self.lesson.task == "classification")
        self._n_test = len(points.test_inputs)

    def _set(self, name: str, value: Any) -> None:
        before, self.lesson = self.lesson, replace(self.lesson, **{name: value})
        if name in self._values:
            self._values[name].set_text(f"{value:g}")
            self._sliders[name].props["aria-valuetext"] = f"{value:g}"
        self.visit.keep(self.lesson.query())
        self.live.change(self.lesson)
        self._show_legend()
        if not before.trains_on(self.lesson):
            self._draw_points()

    def _show_legend(self) -> None:
        spread = self.lesson.surface != "mean" and self.lesson.task == "classification"
        self._legend.set_text(self.text("lesson.legend") + (self.text("lesson.legend.spread") if spread else ""))

    def _turn(self) -> None:
        self.running = not self.running
        self.live.send("start" if self.running else "pause")
        self._start.set_text(self.text("lesson.pause" if self.running else "lesson.start"))
        self._start.props(f"icon={'pause' if self.running else 'play_arrow'}")

    def _step(self) -> None:
        if self.running:
            self._turn()
        self.live.send("step")

    def _reset(self) -> None:
        self.live.send("reset")

    def _copy(self) -> None:
        ui.run_javascript("navigator.clipboard.writeText(location.href)")
        ui.notify(self.text("lesson.copied"))

    def _show(self, snapshot: Snapshot) -> None:
        """Bring a snapshot to the page."""
        text = self.text
        self._progress.set_text(
            text(
                "lesson.progress",
                step=f"{snapshot.step:,}",
                epoch=f"{snapshot.epoch:,}",
                rate=f"{snapshot.per_second:.0f}",
                members=2 * self.lesson.n_seeds,
            )
        )
        self._show_difference(snapshot)
        for image, picture in zip(self._images, snapshot.pictures, strict=False):
            image.props["src"] = picture
            image.set_visibility(True)
        if snapshot.line is not None:
            values, *bands = snapshot.line
            for line, band in zip(self._lines, bands, strict=True):
                line.run_chart_method("setOption", _charts.line_now(values, band))
        self._curves.run_chart_method("setOption", _charts.curves_now(snapshot, text))
        small = (
            lambda: self._norm.run_chart_method("setOption", _charts.norm_now(snapshot)),
            lambda: self._histogram.run_chart_method("setOption", _charts.histogram_now(snapshot)),
            lambda: self._units.run_chart_method("setOption", _charts.units_now(snapshot, text)),
        )
        self._turns += 1
        for number, draw in enumerate(small):  # while it runs they take turns: more frames for the surfaces
            if not self.running or self._turns % len(small) == number:
                draw()

    def _show_difference(self, snapshot: Snapshot) -> None:
        text, found = self.text, snapshot.difference
        sign = -1 if found.verdict == "worse" else 1
        low, high = sorted((sign * found.low, sign * found.high))
        numbers = {"mean": f"{sign * found.mean:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
        verdict = found.verdict if snapshot.step else "untrained"
        self._difference.set_text(text(f"lesson.difference.{verdict}", **numbers))
        self._difference_note.set_text(text("lesson.difference.note", n_seeds=self.lesson.n_seeds, n_rows=self._n_test))
        test, train = snapshot.accuracy, snapshot.train_accuracy
        self._accuracy.set_visibility(test is not None)
        if test is not None and train is not None:
            shares = {"none": test[0], "chosen": test[1], "train_none": train[0], "train_chosen": train[1]}
            self._accuracy.set_text(text("lesson.accuracy", **{name: f"{v:.3f}" for name, v in shares.items()}))


def build(visit: Visit) -> None:
    """Make the page."""
    LessonPage(visit).build()


PAGE = Page("/", "lesson.title", build, (*CHOICES, *QUANTITIES))
