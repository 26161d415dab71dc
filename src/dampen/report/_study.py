"""The report of a study: one HTML file that opens without a network."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen.report._pictures import BLACK, BLUE, GREEN, ORANGE
from dampen.store import Folder

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #111; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.5rem; }}
p.lead {{ font-size: 1.25rem; font-weight: 600; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }}
td:first-child, th:first-child, td.text {{ text-align: left; }}
pre {{ background: #f5f5f5; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }}
.note {{ color: #444; }}
@media print {{ body {{ margin: 0; }} figure {{ break-inside: avoid; }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
_RISING = ("accuracy", "r2")
_WORDS = {"none": "no regularisation", "default": "AdamW's default", "tabular-default": "tabular default"}
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", BLACK)


def write_study(path: Path, document: dict[str, Any], frame: "pd.DataFrame", rungs: Sequence[dict[str, Any]]) -> None:
    """Write a study's report.

    Args:
        path: of the HTML file.
        document: `Study.document()`.
        frame: `Study.frame()`.
        rungs: what each rung of the search found; none for a comparison.

    Raises:
        InputError: it can't be written.
    """
    sections = [
        _verdict(document),
        _landscape(document, rungs),
        _curves(document, frame),
        _overfitting(frame),
        _eliminated(document, rungs),
        _test(document),
        _again(document),
    ]
    body = "\n".join(section for section in sections if section)
    page = _PAGE.format(title=f"How much regularisation? {html.escape(document['data'])}", body=body)
    Folder(path.parent).write(path.name, lambda file: file.write_text(page, encoding="utf-8"))


def _verdict(document: dict[str, Any]) -> str:
    import plotly.graph_objects as go

    first, *rest = (html.escape(sentence) for sentence in document["sentences"])
    others = {
        name: other
        for name, other in document["references"].items()
        if other["interval"][0] is not None and other["setting"] != document["recommended"]
    }
    figure = go.Figure()
    for name, other in others.items():
        low, high = other["interval"]
        figure.add_scatter(
            x=[other["difference"]],
            y=[_WORDS.get(name, name)],
            error_x={"array": [high - other["difference"]], "arrayminus": [other["difference"] - low], "thickness": 3},
            marker={"size": 14, "color": BLUE},
            name=name,
        )
    figure.add_vline(x=0, line_dash="dash")
    better = "right" if document["metric"] in _RISING else "left"
    figure.update_layout(
        showlegend=False,
        xaxis_title=f"{document['metric']} of the recommended setting minus the other's; {better} of 0 is better",
        yaxis={"range": [-0.7, len(others) - 0.3], "tickfont": {"size": 15}},
        height=150 + 70 * len(others),
    )
    picture = _figure(figure, first=True) if others else ""
    return f'<p class="lead">{first}</p>{picture}' + "".join(f"<p>{sentence}</p>" for sentence in rest)


def _landscape(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> str:
    """Draw every setting of the search where it was, coloured by what it reached before it was dropped."""
    if not rungs:
        return ""
    import plotly.graph_objects as go

    first: dict[str, tuple[dict[str, Any], float | None]] = {}
    reached: dict[str, int] = {}
    for rung in rungs:
        for s, value in zip(rung["settings"], rung[document["metric"]], strict=True):
            first.setdefault(json.dumps(s), (s, value))
            reached[json.dumps(s)] = rung["epochs"]
    points = [(s, value, reached[key]) for key, (s, value) in first.items() if value is not None]
    if not points:
        return ""
    decays = [s.get("weight_decay", 0.0) for s, _, _ in points]
    floor = min((d for d in decays if d), default=1e-5) / 5  # where exactly 0 is drawn
    told = [value for _, value, _ in points]
    rising = document["metric"] in _RISING
    with_dropout = any("dropout" in s for s, _, _ in points)
    heights = [_mean_rate(s) for s, _, _ in points] if with_dropout else told
    cut = np.quantile(told, [0.2, 0.8])  # the worst fifth would take all the colours
    full = document["trained"]["epochs"]
    figure = go.Figure()
    figure.add_scatter(
        x=[d or floor for d in decays],
        y=heights,
        mode="markers",
        marker={
            "size": [9 if epochs == rungs[0]["epochs"] else 13 + 6 * (epochs == full) for _, _, epochs in points],
            "color": told,
            "colorscale": "Viridis",
            "cmin": cut[0] if rising else min(told),
            "cmax": max(told) if rising else cut[1],
            "reversescale": not rising,
            "colorbar": {"title": document["metric"]},
            "line": {"width": 1, "color": "white"},
        },
        text=[
            f"{_tell(s)}<br>{document['metric']} {t:.4g} after the first rung; trained for {epochs} epochs"
            for (s, _, epochs), t in zip(points, told, strict=True)
        ],
        hoverinfo="text",
        name="settings",
    )
    best, alike = document["recommended"], document["indistinguishable"]
    figure.add_scatter(
        x=[s.get("weight_decay", 0.0) or floor for s in alike],
        y=[_mean_rate(s) if with_dropout else document["validation"]["mean"] for s in alike],
        mode="markers",
        marker={"symbol": "circle-open", "size": 24, "color": ORANGE, "line": {"width": 2}},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[best.get("weight_decay", 0.0) or floor],
        y=[_mean_rate(best) if with_dropout else document["validation"]["mean"]],
        mode="markers",
        marker={"symbol": "star-open", "size": 26, "color": ORANGE, "line": {"width": 3}},
        name="recommended",
        hoverinfo="name",
    )
    figure.update_layout(
        xaxis={"type": "log", "dtick": 1, "exponentformat": "power", "title": "weight decay (leftmost: exactly 0)"},
        yaxis_title="dropout rate (mean of the layers)" if with_dropout else document["metric"],
        showlegend=False,
        height=520,
    )
    alike = [_tell(s) for s in document["indistinguishable"]]
    same = f" Rings mark settings that can't be told apart from it: {'; '.join(alike)}." if alike else ""
    return (
        "<h2>Where the good settings are</h2>" + _figure(figure) + '<p class="note">Every point is a setting, its '
        "colour what it had reached when the first settings were dropped. Small points were dropped then, larger ones "
        f"later, the largest were trained to the end. The star is the recommended setting.{html.escape(same)}</p>"
    )


def _curves(document: dict[str, Any], frame: "pd.DataFrame") -> str:
    import plotly.graph_objects as go

    confirmed = frame[frame["phase"] == "confirmation"]
    if "validation_loss" not in confirmed:
        return ""
    knobs = [name for name in ("weight_decay", "dropout", "lr") if name in confirmed]
    names = {json.dumps(other["setting"]): name for name, other in document["references"].items()}
    figure = go.Figure()
    for i, (_, curves) in enumerate(confirmed.groupby("setting")):
        values = curves.pivot(index="epoch", columns="seed", values="validation_loss")
        colour = _COLOURS[i % len(_COLOURS)]
        row = curves.iloc[0]
        label = ", ".join(f"{name.replace('_', ' ')} {_short(row[name])}" for name in knobs)
        label = next((n for key, n in names.items() if _same(json.loads(key), row, knobs)), label)
        x = values.index.to_numpy()
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([values.min(axis=1), values.max(axis=1)[::-1]]),
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(x=x, y=values.mean(axis=1), name=label, line={"color": colour, "width": 2.5})
    figure.update_layout(
        xaxis_title="epochs",
        yaxis={"type": "log", "title": "validation loss (log scale)"},
        height=560,
        legend={"orientation": "h", "y": -0.15},
    )
    return (
        "<h2>How the confirmed settings learned</h2>"
        + _figure(figure)
        + '<p class="note">Mean over seeds; the band is from the lowest to the highest seed.</p>'
    )


def _overfitting(frame: "pd.DataFrame") -> str:
    """Draw the gap between validation and training loss, and the weights' norm, against decay."""
    from plotly.subplots import make_subplots

    if "validation_loss" not in frame or "weight_decay" not in frame:
        return ""
    full = frame[(frame["phase"] != "test") & (frame["epoch"] == frame["epoch"].max())]
    full = full.assign(gap=full["validation_loss"] - full["train_loss"])
    knobs = [name for name in ("weight_decay", "dropout", "lr") if name in full]
    means = [group for _, group in full.dropna(subset=["gap"]).groupby(["phase", *knobs])]
    if not means:
        return ""
    decays = np.array([group["weight_decay"].iloc[0] for group in means], dtype=float)
    x = np.where(decays > 0, decays, min((d for d in decays if d > 0), default=1e-5) / 5)
    figure = make_subplots(1, 2, subplot_titles=("generalisation gap (loss)", "L2 norm of the weights"))
    for column, name in enumerate(("gap", "weight_norm"), 1):
        y = [group[name].mean() for group in means]
        figure.add_scatter(x=x, y=y, mode="markers", marker={"color": BLUE, "size": 9}, row=1, col=column)
    figure.update_xaxes(type="log", dtick=1, exponentformat="power", title="weight decay (leftmost: exactly 0)")
    figure.update_layout(showlegend=False, height=380)
    return (
        "<h2>What decay does to overfitting</h2>"
        + _figure(figure)
        + '<p class="note">Validation minus training loss (measured with dropout active), and the norm of the weights '
        "that decay; fully trained settings, means over seeds.</p>"
    )


def _eliminated(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> str:
    if not rungs:
        return ""
    rows = "".join(
        f"<tr><td>{i}</td><td>{rung['epochs']}</td><td>{len(rung['settings'])}</td>"
        f"<td>{_tell(rung['settings'][0])}</td><td>{_told(rung[document['metric']][0])}</td></tr>"
        for i, rung in enumerate(rungs, 1)
    )
    return (
        "<h2>What was dropped when</h2><table><tr><th>rung</th><th>after epochs</th><th>settings</th><th>best</th>"
        f"<th>{document['metric']}</th></tr>{rows}</table>"
    )


def _test(document: dict[str, Any]) -> str:
    if not document["test"]:
        return ""
    metrics = list(next(iter(document["test"].values())))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{_with_interval(found[m])}</td>" for m in metrics) + "</tr>"
        for name, found in document["test"].items()
    )
    return (
        "<h2>The test set, opened once</h2><table><tr><th></th>"
        + "".join(f"<th>{m}</th>" for m in metrics)
        + f"</tr>{rows}</table><p class='note'>Trained on training and validation rows; mean over fresh seeds with a "
        "95 % interval over seeds and rows. The ensemble averages the recommended setting's members.</p>"
    )


def _again(document: dict[str, Any]) -> str:
    trained, plan = document["trained"], document["plan"]
    where = f" The folder {html.escape(str(document['folder']))} holds all of it." if document["folder"] else ""
    facts = {
        "data": f"{plan['data']['name']}, fingerprint {plan['data']['fingerprint']}",
        "network": plan["model"],
        "space": "; ".join(f"{name}: {dimension}" for name, dimension in plan["space"].items()),
        "search": f"{plan['search']}, seeds {plan['seeds']}",
        "judged by": f"{plan['metric']}, {plan['scheme']}, {len(plan['confirm_seeds'])} fresh seeds",
        "training": ", ".join(f"{name} {value}" for name, value in plan["training"].items()),
        "versions": ", ".join(f"{name} {value}" for name, value in plan["versions"].items()),
    }
    rows = "".join(
        f"<tr><td>{name}</td><td class='text'>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )
    return (
        f"<h2>How to repeat it</h2><p>{trained['settings']} settings, {trained['seeds']} seeds, up to "
        f"{trained['epochs']} epochs: {trained['member_epochs']} epochs of members in {document['seconds']:.0f} s."
        f"{where} The same plan gives the same study.</p><table>{rows}</table>"
        f"<pre>{html.escape(json.dumps(document['recommended'], indent=1))}</pre>"
    )


def _figure(figure: "go.Figure", first: bool = False) -> str:
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 20, "t": 40, "b": 60})
    inner = figure.to_html(
        full_html=False, include_plotlyjs=first, config={"displayModeBar": False, "responsive": True}
    )
    return f"<figure style='margin:0'>{inner}</figure>"


def _mean_rate(setting: dict[str, Any]) -> float:
    rate = setting.get("dropout", 0.0)
    rates = list(rate.values()) if isinstance(rate, dict) else rate if isinstance(rate, list) else [rate]
    return float(np.mean(rates)) if rates else 0.0


def _same(setting: dict[str, Any], row: Any, knobs: Sequence[str]) -> bool:
    return all(_short(setting.get(name)) == _short(row[name]) for name in knobs if name in setting)


def _tell(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in setting.items())


def _short(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return "(" + ", ".join(_short(part) for part in value) + ")"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _told(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4g}"


def _with_interval(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "diverged"
    ends = "" if found["interval"] is None else f" ({found['interval'][0]:.4g} to {found['interval'][1]:.4g})"
    return f"{found['mean']:.4g}{ends}"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"
