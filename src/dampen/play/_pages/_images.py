"""The second study as a page: dropout epoch by epoch, and when to believe the network on single images."""

import math
from dataclasses import fields, replace
from typing import Any

from nicegui import ui

from dampen.play import _images_charts as charts
from dampen.play._drawn import drawn
from dampen.play._elements import chart, notes_of, patch, slider, title
from dampen.play._images import (
    N_SEEDS,
    NOTCHES,
    SAMPLES,
    Choice,
    ImagesSnapshot,
    from_query,
    images_training,
    sets_here,
)
from dampen.play._live import Live
from dampen.play._shell import Page, Visit


class _ImagesPage:
    """One tab's study.

    Args:
        visit: the tab.
    """

    def __init__(self, visit: Visit):
        self.visit, self.text = visit, visit.text
        self.choice, self._notes = from_query(visit.query)
        self.live = Live(images_training, self.choice)
        self.running = self.done = False
        self._snapshot: ImagesSnapshot | None = None
        self._n_lines = 0
        self._picked: tuple[str, int] | None = None  # list, and the image of it that its button went to last

    def build(self) -> None:
        """Make the page and start the process."""
        notes_of(self.text, self._notes)
        if self._notes:
            self.visit.keep(self.choice.query())
        with ui.element("div").classes("dampen-page"):
            with ui.element("section").classes("dampen-column"), ui.element("div").classes("dampen-card"):
                self._controls()
            with ui.element("section").classes("dampen-column"):
                self._results()
                self._single()
        drawn(self.visit, self.live, self._show)

    def _controls(self) -> None:
        text = self.text
        ui.label(text("images.about", n_seeds=N_SEEDS)).classes("dampen-small")
        options = {name: text(f"images.data.{name}") for name in sets_here()}
        ui.select(
            options,
            value=self.choice.data,
            label=text("images.data"),
            on_change=lambda event: self._set("data", event.value),
        ).props("dense options-dense").classes("w-full")
        for name in ("rate_1", "rate_2", "rows", "epochs"):
            self._slider(name)
        self._start = ui.button(text("decay.start"), icon="play_arrow", on_click=self._turn)
        self._progress = ui.label(text("lesson.starting")).classes("dampen-small")

    def _slider(self, name: str) -> None:
        notches = NOTCHES[name]
        at = min(range(len(notches)), key=lambda i: abs(notches[i] - getattr(self.choice, name)))
        slider(name, self.text(f"images.{name}"), notches, at, lambda value: self._set(name, value))

    def _results(self) -> None:
        text = self.text
        with ui.element("div").classes("dampen-card"):
            title(text("images.difference"))
            self._difference = ui.label(text("images.difference.none")).classes("text-lg")
        with ui.element("div").classes("dampen-pair"):
            self._accuracy = chart("accuracy", text("images.accuracy"), charts.curves(text))
            self._loss = chart("loss", text("images.loss"), charts.curves(text))
        with ui.element("div").classes("dampen-card"):
            title(text("images.lines"))
            self._lines = ui.log().classes("w-full h-40").style("font-size: .8rem")
            ui.label(text("images.note", n_seeds=N_SEEDS)).classes("dampen-small")

    def _single(self) -> None:
        text = self.text
        with ui.element("div").classes("dampen-card"):
            title(text("images.single"))
            ui.label(text("images.single.note", samples=SAMPLES)).classes("dampen-small")
            with ui.row().classes("gap-2 items-center"):
                self._buttons = [
                    ui.button(text(f"images.{name}"), on_click=lambda _, by=step: self._go(by))
                    for name, step in (("previous", -1), ("next", 1))
                ]
                self._buttons += [
                    ui.button(text(f"images.{name}"), on_click=lambda _, of=listed: self._pick(of))
                    for name, listed in (("uncertain", "order"), ("wrong", "wrong"))
                ]
            for button in self._buttons:
                button.props("outline dense no-caps padding='2px 10px'").set_enabled(False)
            self._untrained = ui.label(text("images.difference.none"))
            with ui.element("div").classes("w-full") as self._trained:
                self._panel()
            self._trained.set_visibility(False)

    def _panel(self) -> None:
        """Make what there is to see of the image once the network is trained."""
        text = self.text
        with ui.element("div").classes("dampen-pair mt-2"):
            with ui.element("div"):
                self._number = ui.label().classes("dampen-small")
                self._image = ui.element("img").style("image-rendering: pixelated; width: 168px; height: 168px")
                self._image.set_visibility(False)  # before the first frame
                self._slider("rotation")
            with ui.element("div"):
                columns: list[dict[str, Any]] = [{"name": n, "label": "", "field": n} for n in ("what", "value")]
                columns[0]["align"], columns[1]["align"] = "left", "right"
                self._table = ui.table(rows=[], columns=columns, row_key="what")
                self._table.props("dense flat hide-header").classes("w-full")
        self._belief = ui.label().classes("text-lg")
        ui.label(text("images.threshold")).classes("dampen-small")
        self._histogram = chart("samples", text("images.histogram"), charts.histogram(text))

    def _set(self, name: str, value: Any) -> None:
        value = value if isinstance(value, str) or name.startswith("rate") else int(value)
        before, self.choice = self.choice, replace(self.choice, **{name: value})
        if name == "image" or not before.trains_as(self.choice):
            self._picked = None
        self.visit.keep(self.choice.query())
        self.live.change(self.choice)
        if not before.trains_as(self.choice) or (name == "epochs" and self.done):
            self.done = False
            self._name_start()

    def _turn(self) -> None:
        if self.done:
            self.live.send("reset")
        self.running, self.done = self.done or not self.running, False
        self.live.send("start" if self.running else "pause")
        self._name_start()

    def _name_start(self) -> None:
        name = "again" if self.done else "pause" if self.running else "start"
        self._start.set_text(self.text(f"decay.{name}"))
        self._start.props(f"icon={'pause' if name == 'pause' else 'play_arrow'}")

    def _go(self, by: int) -> None:
        if self._snapshot is not None:
            here = min(self.choice.image, self._snapshot.n_images - 1)
            self._set("image", (here + by) % self._snapshot.n_images)

    def _pick(self, listed: str) -> None:
        """Go to the next image of a list, or to its first one where its button did not lead to this one."""
        trust = self._snapshot.trust if self._snapshot is not None else None
        numbers: list[int] = getattr(trust, listed) if trust is not None else []
        if numbers:
            here = self.choice.image
            at = numbers.index(here) + 1 if self._picked == (listed, here) and here in numbers else 0
            number = numbers[at % len(numbers)]
            self._set("image", number)
            self._picked = listed, number

    def _show(self, snapshot: ImagesSnapshot) -> None:
        """Bring a snapshot to the page."""
        text, self._snapshot = self.text, snapshot
        counts = {"epoch": snapshot.epoch, "epochs": snapshot.epochs, "n_train": f"{snapshot.n_train:,}"}
        self._progress.set_text(text("images.progress", **counts))
        if snapshot.done and snapshot.epochs == self.choice.epochs and not self.done:
            self.running, self.done = False, True
            self.live.send("pause")
            self._name_start()
        if len(snapshot.lines) < self._n_lines:
            self._lines.clear()
            self._n_lines = 0
        for line in snapshot.lines[self._n_lines :]:
            self._lines.push(self.text.line(line))
        self._n_lines = len(snapshot.lines)
        patch(self._accuracy, charts.curves_now(snapshot, "accuracy"))
        patch(self._loss, charts.curves_now(snapshot, "loss"))
        if snapshot.epoch:
            found = snapshot.difference
            sign = -1 if found.verdict == "worse" else 1
            low, high = sorted((sign * found.low, sign * found.high))
            numbers = {"mean": f"{sign * found.mean:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}"}
            self._difference.set_text(text(f"images.difference.{found.verdict}", **numbers))
        else:
            self._difference.set_text(text("images.difference.none"))
        self._show_image(snapshot)

    def _show_image(self, snapshot: ImagesSnapshot) -> None:
        text, shown, trust = self.text, snapshot.shown, snapshot.trust
        for button in self._buttons:
            button.set_enabled(shown is not None)
        self._trained.set_visibility(shown is not None)
        self._untrained.set_visibility(shown is None)
        if shown is None or trust is None:
            return
        place = {"number": shown.number + 1, "n_images": snapshot.n_images, "label": shown.label}
        self._number.set_text(text("images.number", **place))
        self._image.props["src"] = shown.picture
        self._image.props["alt"] = text("images.picture", label=shown.label)
        self._image.set_visibility(True)
        self._image.update()

        def answer(name: str, probability: float) -> str:
            return text("images.answer", name=name, probability=f"{probability:.3f}")

        values = {
            "prediction": answer(shown.names[0], shown.probabilities[0]),
            "entropy": text("images.nats", value=f"{shown.entropy:.3f}"),
            "mutual_information": text("images.nats", value=f"{shown.mutual_information:.3f}"),
            "plain": answer(*shown.single),
        }
        self._table.update_rows([{"what": text(f"images.{name}"), "value": v} for name, v in values.items()])
        n, share = (trust.n_believed, trust.right) if shown.believed else (trust.n_others, trust.others_right)
        told = "–" if math.isnan(share) else f"{share:.1%}"
        key = "images.believe" if shown.believed else "images.doubt"
        self._belief.set_text(text(key, threshold=f"{trust.threshold:.3f}", n=n, share=told))
        patch(self._histogram, charts.histogram_now(shown))


def build(visit: Visit) -> None:
    """Make the page."""
    _ImagesPage(visit).build()


PAGE = Page("/dropout", "images.title", build, [field.name for field in fields(Choice)])
