"""The first study as a page: weight decay on 20 rows of 200 inputs, beside the closed form."""

from nicegui import ui

from dampen.play import _decay_charts as charts
from dampen.play._decay import N_SEEDS, PROBLEM, STRENGTHS, Decay, DecaySnapshot, decay_training, from_query
from dampen.play._drawn import drawn
from dampen.play._elements import chart, notes_of, patch, slider, title
from dampen.play._live import Live
from dampen.play._shell import Page, Visit


class _DecayPage:
    """One tab's study.

    Args:
        visit: the tab.
    """

    def __init__(self, visit: Visit):
        self.visit, self.text = visit, visit.text
        self.choice, self._notes = from_query(visit.query)
        self.live = Live(decay_training, self.choice)
        self.running = self.done = False

    def build(self) -> None:
        """Make the page and start the process."""
        text = self.text
        notes_of(self.text, self._notes)
        if self._notes:
            self.visit.keep(self.choice.query())
        with ui.element("div").classes("dampen-page"):
            with ui.element("section").classes("dampen-column"), ui.element("div").classes("dampen-card"):
                ui.label(text("decay.about")).classes("dampen-small")
                at = min(range(len(STRENGTHS)), key=lambda i: abs(STRENGTHS[i] - self.choice.weight_decay))
                slider("weight_decay", text("decay.lambda"), STRENGTHS, at, self._set)
                self._start = ui.button(text("decay.start"), icon="play_arrow", on_click=self._turn)
                self._progress = ui.label(text("lesson.starting")).classes("dampen-small")
            with ui.element("section").classes("dampen-column"):
                self._results()
        drawn(self.visit, self.live, self._show)

    def _results(self) -> None:
        text = self.text
        with ui.element("div").classes("dampen-card"):
            title(text("decay.figures"))
            self._result = ui.label().classes("text-lg")
            names = ("train", "test", "norm")
            columns = [{"name": "setting", "label": "", "field": "setting", "align": "left"}]
            columns += [{"name": n, "label": text(f"decay.figures.{n}"), "field": n, "align": "right"} for n in names]
            self._table = ui.table(rows=[], columns=columns, row_key="setting").props("dense flat").classes("w-full")
        note = text("decay.loss.note", n_seeds=N_SEEDS)
        self._losses = chart("loss", text("decay.loss"), charts.losses(text), note)
        with ui.element("div").classes("dampen-pair"):
            self._norms = chart("norm", text("decay.norm"), charts.norms(text), text("decay.norm.note"))
        with ui.element("div").classes("dampen-pair"):
            self._test = chart("test", text("decay.along.test"), charts.along(text), text("decay.along.note"))
            self._norm = chart("along", text("decay.along.norm"), charts.along(text))

    def _set(self, value: float) -> None:
        """Train with another weight decay, from the start."""
        self.choice = Decay(value)
        self.visit.keep(self.choice.query())
        self.live.change(self.choice)
        self._run(True)

    def _turn(self) -> None:
        if self.done:
            self.live.send("reset")
        self._run(self.done or not self.running)

    def _run(self, on: bool) -> None:
        self.running, self.done = on, False
        self.live.send("start" if on else "pause")
        self._name_start()

    def _name_start(self) -> None:
        name = "again" if self.done else "pause" if self.running else "start"
        self._start.set_text(self.text(f"decay.{name}"))
        self._start.props(f"icon={'pause' if name == 'pause' else 'play_arrow'}")

    def _show(self, snapshot: DecaySnapshot) -> None:
        """Bring a snapshot to the page."""
        text = self.text
        self._progress.set_text(text("decay.progress", epoch=snapshot.epoch, epochs=PROBLEM.epochs))
        if snapshot.done and self.running and snapshot.weight_decay == self.choice.weight_decay:
            self.running, self.done = False, True
            self.live.send("pause")
            self._name_start()
        found = snapshot.difference
        sign = -1 if found.verdict == "worse" else 1
        low, high = sorted((sign * found.low, sign * found.high))
        numbers = {"mean": f"{sign * found.mean:.3g}", "low": f"{low:.3g}", "high": f"{high:.3g}"}
        verdict = found.verdict if snapshot.epoch else "untrained"
        self._result.set_text(text(f"decay.result.{verdict}", n_seeds=N_SEEDS, **numbers))
        comma = text("lesson.comma")
        rows = [
            {"setting": f"λ = {strength:g}"}
            | {"train": f"{train.mean[-1]:.3g}", "test": f"{test.mean[-1]:.3g}", "norm": f"{norm[-1]:.3g}"}
            for strength, train, test, norm in zip(
                (0.0, snapshot.weight_decay), snapshot.train, snapshot.test, snapshot.norm, strict=True
            )
        ]
        rows[1]["setting"] = f"λ = {snapshot.weight_decay:g}{comma}{text('decay.chosen')}"
        rows[0]["setting"] += f"{comma}{text('decay.none')}"
        ridge = {"train": "", "test": f"{snapshot.ridge_test:.3g}", "norm": f"{snapshot.ridge_norm:.3g}"}
        rows.append({"setting": f"λ = {snapshot.weight_decay:g}{comma}{text('decay.ridge')}", **ridge})
        self._table.update_rows(rows)
        patch(self._losses, charts.losses_now(snapshot))
        patch(self._norms, charts.norms_now(snapshot))
        patch(self._test, charts.along_now(snapshot, "test"))
        patch(self._norm, charts.along_now(snapshot, "norm"))


def build(visit: Visit) -> None:
    """Make the page."""
    _DecayPage(visit).build()


PAGE = Page("/decay", "decay.title", build, ("weight_decay",))
