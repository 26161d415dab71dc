"""The report of a study: the verdict first, then the pictures and tables that it rests on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen._checks import as_path
from dampen._io import counted, shortened
from dampen._language import part, shown
from dampen.errors import InputError
from dampen.report import _curves, _forest, _lengths, _map
from dampen.report._page import (
    STUDY,
    Picture,
    check_page,
    n_epochs,
    render,
    setting_text,
    short,
    styled,
    with_ends,
    write_page,
)
from dampen.search import AROUND, Ranked, enough_for_importance, importance
from dampen.study import BEATEN, REFERENCE_NAMES

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_USUAL_KNOBS = 3  # decay, dropout and learning rate
_SCHEMES = {"folds": "cross-validation", "held-out": "held-out rows"}
_AGREES = {True: "agrees", False: "contradicts"}


def write_study(
    path: str | Path, document: dict[str, Any], frame: "pd.DataFrame", rungs: Sequence[dict[str, Any]]
) -> None:
    """Write a study's report.

    Args:
        path: of the HTML file.
        document: `Study.document()`.
        frame: `Study.frame()`.
        rungs: what each rung of the search found; none for a comparison of one length.

    Raises:
        InputError: it can't be written, or would take the place of a file that is no page of dampen's.
    """
    path = as_path("path", path)
    check_page(path, STUDY)
    lead, *rest = document["sentences"]
    of_test = [sentence for sentence in rest if sentence.startswith("The test rows")] if document["test"] else []
    beaten = [sentence for sentence in rest if sentence.startswith(BEATEN)]
    others = [sentence for sentence in rest if sentence not in (*of_test, *beaten)]
    sections = [
        render("lead.html", lead=shown(lead), more=[shown(sentence) for sentence in beaten]),
        *(_html(draw(document, frame, rungs)) for draw in _PICTURES.values()),
        _in_words(others),
        _importance(document, rungs),
        _dropped(document, rungs),
        _test(document, of_test),
        _leaks(document),
        _again(document),
    ]
    write_page(path, shown(f"How much regularisation? {document['data']}"), sections)


def study_figure(
    name: str, document: dict[str, Any], frame: "pd.DataFrame", rungs: Sequence[dict[str, Any]]
) -> "go.Figure":
    """Return a picture of a study's report, to show in a notebook or to change; the arguments are `write_study`'s.

    Raises:
        InputError: there is no picture of that name, or the study has nothing to draw there.
    """
    if not isinstance(name, str) or name not in _PICTURES:
        raise InputError(f"there is no figure {shortened(repr(name))} of a study: choose one of {', '.join(_PICTURES)}")
    picture = _PICTURES[name](document, frame, rungs)
    if picture is None or picture.figure is None:
        raise InputError(f"this study has nothing to draw as {name!r}: {_NOTHING[name]}")
    return styled(picture.figure)


_PICTURES: "dict[str, Callable[[dict[str, Any], pd.DataFrame, Sequence[dict[str, Any]]], Picture | None]]" = {
    "curves": lambda document, frame, rungs: _curves.curves(document, frame),
    "differences": lambda document, frame, rungs: _forest.differences(document),
    "gain": lambda document, frame, rungs: _forest.gain(document),
    "landscape": lambda document, frame, rungs: _map.landscape(document, rungs),
    "lengths": lambda document, frame, rungs: _lengths.lengths(document, rungs),
}
_NOTHING = {
    "curves": "it kept no learning curves of what it recommends",
    "differences": "nothing else trained to the end",
    "gain": "a comparison has no parts of a gain",
    "landscape": "a map needs five settings of a search that differ in a number",
    "lengths": "all its trainings have one length",
}


def _html(picture: Picture | None) -> str:
    return "" if picture is None else picture.html()


def _in_words(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    return render("list.html", title=shown("In words"), items=[shown(sentence) for sentence in sentences])


def _dropped(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> str:
    searched = [rung for rung in rungs if rung["family"] == "search" and rung["settings"]]
    if not searched:
        return ""
    metric = document["metric"]
    rows = []
    for rung, after in zip(searched, [*searched[1:], None], strict=True):
        n = len(rung["settings"])
        went = ""
        if after is not None and after["bracket"] == rung["bracket"]:
            went = str(sum(setting not in after["settings"] for setting in rung["settings"]))
        best = rung[metric][0]
        value = shown("diverged") if best is None else f"{best:.4g}"
        rows.append((n_epochs(rung["epochs"]) + _stage(rung["run"]), n, went, setting_text(rung["settings"][0]), value))
    return render("dropped.html", metric=shown(metric), rows=rows)


def _importance(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> str:
    """Return which knobs matter, of a search over more of them than the usual three."""
    if len(document["plan"]["space"]) <= _USUAL_KNOBS:
        return ""
    ranked = [Ranked.from_document(rung) for rung in rungs]
    if not enough_for_importance(ranked):
        return ""
    found = importance(ranked)
    rows = [
        (name, f"{100 * k.share:.0f} %", part(f"{100 * k.low:.0f} to {100 * k.high:.0f} %"), f"{k.p:.2g}")
        for name, k in found.knobs.items()
    ]
    return render("importance.html", sentences=[shown(sentence) for sentence in found.sentences()], rows=rows)


def _stage(run: str) -> str:
    if run.startswith(AROUND):
        return shown(", around the best")
    return shown(", longer") if run.startswith("search-longer") else ""


def _test(document: dict[str, Any], sentences: Sequence[str]) -> str:
    if not document["test"]:
        return ""
    metrics = list(document["test"]["recommended"])
    paired = any("against" in metrics_of for metrics_of in document["test"].values())
    rows = []
    for name, metrics_of in document["test"].items():
        cells = [_metric_lines(metrics_of.get(metric)) for metric in metrics] + [
            _against(metrics_of.get("against"))
        ] * paired
        rows.append((part(str(REFERENCE_NAMES.get(name, name))), cells))
    against = f"{shown(document['metric'])}{shown(', recommended minus this')}"
    head = [*map(shown, metrics), *[against] * paired]
    return render("test.html", sentences=[shown(sentence) for sentence in sentences], head=head, rows=rows)


Lines = list[str]
"""Of a cell: its value, then what is small below it."""


def _metric_lines(value: dict[str, Any] | None) -> Lines:
    if value is None:
        return [""]
    return [shown("diverged")] if value["mean"] is None else _cell(value["mean"], value["interval"])


def _against(against: dict[str, Any] | None) -> Lines:
    if against is None:
        return [""]
    if against["difference"] is None:
        return [shown("diverged")]
    lines = [shown(_AGREES[against["agrees"]])] if against.get("agrees") is not None else []
    return _cell(against["difference"], against["interval"], "+") + lines


def _cell(value: float, ends: Sequence[float | None] | None, sign: str = "") -> Lines:
    mean, *interval = with_ends(value, ends, sign).split(" (", 1)
    return [mean, *(end.rstrip(")") for end in interval)]


def _leaks(document: dict[str, Any]) -> str:
    leaks = {} if document["diagnosis"] is None else document["diagnosis"]["leaks"]
    items = []
    if leaks.get("copies"):
        n = leaks["copies"]
        which = "1 row is a copy" if n == 1 else f"{n} rows are copies"
        items.append(f"{which} of another one; copies stay on one side of every split.")
    if leaks.get("test_copies"):
        n = leaks["test_copies"]
        which = "1 test row is" if n == 1 else f"{n} test rows are"
        items.append(f"{which} equal to training rows: the test figures may be too good.")
    items += [
        f"Column '{name}' looks like an identifier that repeats: if its rows belong together, group by it."
        for name in leaks.get("identifiers", [])
    ]
    if not items:
        return ""
    title = shown("What may make figures too good")
    return render("list.html", title=title, items=[shown(item) for item in items])


def _again(document: dict[str, Any]) -> str:
    trained, plan = document["trained"], document["plan"]
    scheme = shown(_SCHEMES.get(str(plan["scheme"]), str(plan["scheme"])))
    fresh = shown(counted(len(plan["confirm_seeds"]), "fresh seed"))
    facts = {
        "data": shown(f"{plan['data']['name']}, fingerprint {plan['data']['fingerprint']}"),
        "notes": " ".join(shown(note) + shown(".") for note in document["notes"]).replace("。 ", "。"),
        "network": plan["model"],
        "space": "; ".join(f"{name}: {dimension}" for name, dimension in plan["space"].items()),
        "search": f"{plan['search']}, {shown('seeds')} {_list(plan['seeds'])}" if trained["settings"] else "",
        "lengths": ", ".join(f"{shown(name)} {short(value)}" for name, value in plan["lengths"].items()),
        "evaluation": f"{plan['metric']}, {scheme}, {fresh}",
        "training": ", ".join(f"{name} {value}" for name, value in plan["training"].items()),
        "versions": ", ".join(f"{name} {value}" for name, value in plan["versions"].items()),
        "folder": document["folder"] or "",
    }
    epochs, together = trained["epochs"], f"{trained['member_epochs']:.0f}"
    tried = (
        f"{counted(trained['settings'], 'setting')} with {counted(trained['seeds'], 'seed')} each were searched, the "
        f"longest training had {counted(epochs, 'epoch')}; all members together"
        if trained["settings"]
        else f"The trainings had {counted(epochs, 'epoch')}; all members together"
    )
    work = shown(f"{tried} {together} epochs in {document['seconds']:.0f} s. The same plan gives the same study.")
    recommended = {"setting": document["recommended"], "epochs": document["length"]["epochs"]}
    rows = [(shown(name), value) for name, value in facts.items() if value]
    return render("again.html", work=work, facts=rows, recommended=json.dumps(recommended, indent=1))


def _list(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return part(f"{seeds[0]} to {seeds[-1]}")
    return ", ".join(str(seed) for seed in seeds)
