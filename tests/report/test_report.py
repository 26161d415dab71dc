"""The report of a study: one file that a browser shows without a network, and in which no text is code."""

import copy
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

import dampen
from dampen import LogUniform, Setting, compare, tune
from dampen.report import write_study
from dampen.report._page import setting_text
from dampen.report.pictures import BLACK, BLUE, GREEN, ORANGE

SMALL = {"n_settings": 6, "n_seeds": 2, "epochs": 4, "confirmed": 2, "n_confirm_seeds": 3}
HEADINGS = [
    "Training and validation loss",
    "What it was compared with",
    "Where the gain comes from",
    "Where the good settings are",
    "How long to train",
    "In words",
    "Settings that were dropped",
    "The test set, opened once",
    "How to reproduce it",
]


@pytest.fixture(scope="module")
def study():
    return tune(dampen.mlp(8, 8, dropout=0.1), dampen.load("wine"), per_layer=True, **SMALL)


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    study.report(file)
    return file


@pytest.fixture
def written(study, tmp_path):
    """A function that writes the report of a document, and returns its text without plotly's own code."""

    def write(document, frame=None, rungs=None):
        rungs = [study.plan.rung_document(rung) for rung in study.ranked] if rungs is None else rungs
        write_study(tmp_path / "r.html", document, study.frame() if frame is None else frame, rungs)
        return (tmp_path / "r.html").read_text().split("</head>")[1]

    return write


@pytest.fixture
def document(study):
    return copy.deepcopy(study.document())


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def figures(text):
    """Return the pictures of a page by name: their traces and layouts."""
    decoder, found = json.JSONDecoder(), {}
    for match in re.finditer(r'Plotly\.newPlot\(\s*"figure-(\w+)",\s*', text):
        traces, end = decoder.raw_decode(text, match.end())
        layout, _ = decoder.raw_decode(text, re.compile(r"[,\s]*").match(text, end).end())
        found[match[1]] = (traces, layout)
    return found


def test_it_has_everything_in_one_file_of_modest_size(page):
    text = page.read_text()
    assert len(text) < 1.5e6
    assert headings(text) == HEADINGS
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", text)
    assert list(figures(text)) == ["curves", "differences", "gain", "map", "lengths"]


def test_on_a_dark_page_lighter_colours_stand_for_single_ones_and_the_map_keeps_its_scale(page):
    text = page.read_text()
    style = text.split("<style>")[1].split("</style>")[0]
    dark = style[style.index("(prefers-color-scheme: dark)") : style.index("@media print")]
    assert "filter" not in dark
    for colour in (BLUE, ORANGE, GREEN, BLACK):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert f'[style*="stroke: rgb({red}, {green}, {blue})"]' in dark
    for _, ends in figures(text)["map"][1]["coloraxis"]["colorscale"]:
        light = [int(ends[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in light]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # of WCAG 2
        assert luminance + 0.05 > 2 * (0.05 + 0.0080)  # beside #161616
        assert luminance + 0.05 < 1.05 / 1.4  # beside white


def test_the_curves_are_the_recommended_training_and_the_same_without_regularisation(written, study, document):
    best, off = Setting(weight_decay=0.1, dropout=(0.2, 0.1), lr=0.01), Setting(weight_decay=0.0, dropout=0.0, lr=0.01)
    population = dampen.Population(dampen.mlp(8, 8, dropout=0.1), [best, off], [0, 1])
    population.fit(dampen.load("wine").with_validation(0.3, seed=0), epochs=4, callback=None)
    frame = population.history.frame().assign(phase="confirmation", length=4, run="confirmation-1")
    frame["dropout"] = frame["dropout"].map(str)
    document |= {"recommended": {"weight_decay": 0.1, "dropout": [0.2, 0.1], "lr": 0.01}}
    document["length"]["epochs"] = 4
    document["off"] = {"setting": {"weight_decay": 0.0, "dropout": 0.0, "lr": 0.01}, "epochs": 4, "stopped_at": None}
    least = int(population.history.metrics["validation_loss"][:, :, 1].mean(1).argmin())
    document["diagnosis"]["overfits_from"] = int(population.history.epochs[least])
    text = written(document, frame)
    lines = {trace["name"]: trace for trace in figures(text)["curves"][0] if "name" in trace}
    assert list(lines) == [
        "recommended: training",
        "recommended: validation",
        "without regularisation: training",
        "without regularisation: validation",
        f"overfits from epoch {least + 1} on",
    ]
    for m, name in enumerate(("recommended", "without regularisation")):
        for split, dash in (("training", "dash"), ("validation", "solid")):
            curve = population.history.metrics[f"{split.replace('training', 'train')}_loss"][:, :, m].mean(1)
            assert lines[f"{name}: {split}"]["line"]["dash"] == dash
            assert drawn(lines[f"{name}: {split}"]["y"]) == pytest.approx(curve.tolist())


@pytest.mark.parametrize("passed_over", [None, {"estimate": 0.1, "interval": [-0.1, 0.3]}])
def test_where_none_is_recommended_the_curve_beside_it_is_of_the_setting_that_was_passed_over(
    written, document, passed_over
):
    best, off = document["recommended"], document["off"]
    chosen = {"setting": best, "epochs": document["length"]["epochs"], "stopped_at": None}
    document |= {"recommended": off["setting"], "chosen": chosen, "passed_over": passed_over}
    document["length"]["epochs"] = off["epochs"]
    names = [trace["name"] for trace in figures(written(document))["curves"][0] if "name" in trace]
    passed = ["the best with regularisation: training", "the best with regularisation: validation"]
    assert names[: -2 if passed_over else None][:2] == (passed if passed_over else names[:2])
    assert any("with regularisation" in name for name in names) == (passed_over is not None)


def test_what_is_better_than_the_network_stands_below_the_headline_and_the_unit_of_losses_below_the_curves(
    written, document
):
    line = "Better than the network on these rows: a linear model. Consider using that instead."
    document["sentences"] = [document["sentences"][0], line, *document["sentences"][1:]]
    assert "standardised target" not in written(document)
    document["plan"]["target_scale"] = [10.0, 2.5]
    text = written(document)
    assert text.index('<p class="lead">') < text.index(line) < text.index("figure-differences")
    assert text.count(line) == 1
    assert "Losses are of the standardised target, (target - 10) / 2.5." in text


def drawn(values):
    """Return numbers that plotly wrote as a list, or as base64."""
    if isinstance(values, list):
        return values
    import base64

    import numpy as np

    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()


def test_dropped_are_the_settings_that_do_not_train_on(study, written, document):
    rung = study.plan.rung_document(study.ranked[0])
    a, b, c, d = rung["settings"][:4]

    def of(run, epochs, settings):
        values = {"run": run, "epochs": epochs, "bracket": 1, "settings": settings}
        return rung | values | {key: rung[key][: len(settings)] for key in ("costs", "stops", document["metric"])}

    rungs = [of("search-around", 4, [a, b, c]), of("search-around-2", 8, [a, d, c, b]), of("search-longer-2", 16, [d])]
    table = written(document, rungs=rungs).split("Settings that were dropped")[1].split("</table>")[0]
    counts = [tuple(map(int, found)) for found in re.findall(r"<td>(\d+)</td><td>(\d+)</td>", table)]
    assert counts == [(3, 0), (4, 3)]
    swapped = [of("search-around", 4, [a, b, c]), of("search-around-2", 8, [a, d])]
    table = written(document, rungs=swapped).split("Settings that were dropped")[1].split("</table>")[0]
    assert re.findall(r"<td>(\d+)</td><td>(\d+)</td>", table) == [("3", "2")]


def test_the_map_shows_each_setting_once_with_its_best_value_and_hollow_if_it_was_dropped(study, written, document):
    found = {}
    for rung in study.ranked:
        if rung.family == "search":
            for setting, cost in zip(rung.settings, rung.costs, strict=True):
                found.setdefault(setting, {})[rung.epochs] = cost
    longest = min(study.recommended.epochs, max(max(costs) for costs in found.values()))
    traces, _ = figures(written(document))["map"]
    dropped = [min(costs.values()) for costs in found.values() if max(costs) < longest]
    trained = [min(costs.values()) for costs in found.values() if max(costs) >= longest]
    shown = {trace["marker"]["symbol"]: trace for trace in traces if "coloraxis" in trace["marker"]}
    assert sorted(shown["circle"]["marker"]["color"]) == pytest.approx(sorted(trained))
    hollow = shown["circle-open"]["marker"]["color"] if dropped else []
    assert sorted(hollow) == pytest.approx(sorted(dropped))
    assert sum(trace.get("name") == "recommended" for trace in traces) == 1


def test_a_reference_far_from_the_others_is_named_instead_of_drawn(written, document):
    near = {"setting": {"lr": 1.0}, "epochs": 1, "stopped_at": None, "mean": 1.0, "difference": -0.1}
    near |= {"interval": [-0.2, 0.1], "better": None, "equivalent": False}
    far = near | {"setting": None, "difference": -50.0, "interval": [-51.0, -49.0], "better": True}
    diverged = near | {"difference": None, "interval": [None, None]}
    document["references"] = {"none": near, "default": near, "constant": far, "tabular-default": diverged}
    text = written(document)
    ticks = figures(text)["differences"][1]["yaxis"]["ticktext"]
    assert [tick.split("<br>")[0] for tick in ticks] == ["no regularisation", "AdamW's default decay"]
    assert "The constant baseline is too far away to be drawn: -50 (-51 to -49), better." in text
    assert "The published default for tables diverged." in text


def test_the_gain_is_drawn_part_by_part(written, document):
    part = {"estimate": 0.1, "interval": [-0.1, 0.3]}
    document["attribution"] = {"lr": part, "length": part, "regularisation": part, "weight_decay": part}
    document["total"] = {"estimate": 0.3, "interval": [None, None]}
    ticks = figures(written(document))["gain"][1]["yaxis"]["ticktext"]
    parts = ["learning rate", "length", "regularisation", "all of these", "its weight decay"]
    assert [tick.split("<br>")[0] for tick in ticks] == parts
    document["calibrated_attribution"] = {"weight_decay": part, "together": part | {"estimate": None}}
    text = written(document)
    parts.append("its weight decay, with temperatures")
    assert [tick.split("<br>")[0] for tick in figures(text)["gain"][1]["yaxis"]["ticktext"]] == parts
    assert "Hollow ones are of the same networks with a temperature each." in text


def test_the_test_set_has_the_paired_difference_and_whether_it_agrees(written, document):
    values = {"nll": {"mean": 0.5, "interval": [0.4, 0.6]}}
    against = {"difference": -0.25, "interval": [-0.5, -0.1], "agrees": False}
    document["test"] = {"recommended": values, "none": values | {"against": against}, "ensemble": values}
    document["sentences"] = ["Answer.", "More.", "The test rows contradict this: so."]
    text = written(document)
    section = text[text.index("The test set, opened once") : text.index("How to reproduce it")]
    assert "The test rows contradict this: so." in section
    for said in ("-0.25", "-0.5 to -0.1", "contradicts", "no regularisation"):
        assert said in section
    assert text.count("The test rows contradict this") == 1


def test_leaks_have_a_section_where_there_are_any(written, document):
    document["diagnosis"]["leaks"] = {"copies": 2, "test_copies": 1, "identifiers": ["patient"]}
    text = written(document)
    assert "What may make figures too good" in headings(text)
    assert "Column &#39;patient&#39; looks like an identifier" in text


def test_no_text_of_a_document_is_taken_as_code(study, document, written):
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"

    def poisoned(value, key=""):
        if isinstance(value, dict):
            return {k: poisoned(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v, key) for v in value]
        return value + evil if isinstance(value, str) and key != "metric" else value

    document = poisoned(document)
    document["references"] |= {evil: next(iter(document["references"].values())) | {"epochs": 99}}
    document["attribution"] |= {evil: {"estimate": 1.0, "interval": [0.0, 2.0]}}
    document["test"] |= {evil: document["test"]["recommended"]}
    document["diagnosis"]["leaks"]["identifiers"] = [evil]
    rungs = [study.plan.rung_document(rung) for rung in study.ranked]
    for rung in rungs:
        rung["settings"] = [setting | {evil: m} for m, setting in enumerate(rung["settings"])]
        rung["family"] += evil if rung["family"] != "search" else ""
    text = written(document, rungs=rungs)
    assert set(figures(text)) >= {"differences", "gain", "map", "lengths"}
    assert "<img" not in text
    assert "alert(2)</script>" not in text
    assert "\\u003cimg" not in text  # plotly reads tags in its texts
    assert "&lt;img" in text


def test_a_comparison_has_a_report_without_a_search(tmp_path):
    settings = {"none": Setting(), "<b>odd</b>": Setting(weight_decay=0.1)}
    compare(dampen.mlp(8), dampen.load("wine"), settings, n_seeds=3, epochs=2).report(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text().split("</head>")[1]
    assert headings(text) == [HEADINGS[i] for i in (0, 1, 5, 7, 8)]
    assert "<b>odd</b>" not in text
    assert "\\u003cb\\u003eodd" not in text
    assert "&lt;b&gt;odd" in text


def test_settings_that_diverge_and_knobs_other_than_decay_are_drawn(tmp_path):
    space = {"l1": LogUniform(1e-5, 1.0), "lr": LogUniform(1e-3, 1e4)}
    study = tune(dampen.mlp(8), dampen.load("diabetes"), space, metric="rmse", **SMALL)
    study.report(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text().split("</head>")[1]
    assert "Training and validation loss" in headings(text)
    rungs = [study.plan.rung_document(rung) for rung in study.ranked]
    diverged = [rung | {"costs": [None] * len(rung["costs"]), "rmse": [None] * len(rung["rmse"])} for rung in rungs]
    write_study(tmp_path / "r.html", study.document(), study.frame().drop(columns="validation_loss"), diverged)
    text = (tmp_path / "r.html").read_text().split("</head>")[1]
    assert "Where the good settings are" not in headings(text)
    assert "diverged" in text


def test_a_report_that_cannot_be_written_is_one_line(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(dampen.InputError, match="can't be written"):
        study.report(tmp_path / "file" / "r.html")


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or pytest.skip("there is no chromium to look at the report with")


@pytest.fixture(scope="module")
def on_a_phone(page, browser):
    """The report on a dark phone, 390 pixels wide, in a browser; what its console has in the end must be nothing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="phones are shown by playwright, from pip")
    wrong = []
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        shown = launched.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        shown.on("console", lambda message: wrong.append(message.text))
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.goto(page.as_uri())
        shown.wait_for_function("document.querySelectorAll('.main-svg .xtick').length > 9")
        yield shown
        launched.close()
    assert wrong == []


def test_on_a_phone_figures_are_whole_with_their_marks_legends_and_ticks(on_a_phone):
    assert on_a_phone.evaluate("document.documentElement.scrollWidth") == 390
    for figure in on_a_phone.query_selector_all("figure"):
        frame = figure.bounding_box()
        assert figure.evaluate("figure => figure.scrollWidth - figure.clientWidth") == 0
        assert figure.evaluate("figure => figure.scrollHeight - figure.clientHeight") == 0
        shown = figure.query_selector_all(".point, .legendtext, .annotation-text, .cbaxis text, .xtick text, .xtitle")
        assert len(figure.query_selector_all(".xtick text")) > 1
        assert len(shown) > 4
        for part in shown:
            box = part.bounding_box()
            assert box["x"] >= frame["x"]
            assert box["x"] + box["width"] <= frame["x"] + frame["width"]


LONG = {
    "name": "a network of one's own with a name that takes many letters",
    "detail": "+7.73e-09 (-3.96e-08 to +5.51e-08), no significant difference",
}


def test_on_a_phone_the_names_of_rows_keep_clear_of_their_marks_and_of_the_edge(on_a_phone):
    on_a_phone.set_viewport_size({"width": 360, "height": 844})
    for name in ("differences", "gain"):
        on_a_phone.evaluate(
            """([name, long]) => {
                const [data, layout, config] = drawn.get(name), other = structuredClone(layout);
                other.yaxis.ticktext[1] = other.yaxis.ticktext[1]
                    .replace(/^[^<]*/, long.name).replace(/>[^<>]*(?=<.span>)/, ">" + long.detail);
                return Plotly.newPlot(name, data, other, config);
            }""",
            [f"figure-{name}", LONG],
        )
        (figure,) = on_a_phone.query_selector_all(f"figure:has(#figure-{name})")
        frame = figure.bounding_box()
        rows = [each.bounding_box() for each in figure.query_selector_all(".annotation-text")]
        marks = [each.bounding_box() for each in figure.query_selector_all(".point, .xerror")]
        assert min(len(rows), len(marks)) > 1
        assert LONG["detail"].replace(", ", "") in figure.text_content()
        for row in rows:
            assert row["x"] + row["width"] <= frame["x"] + frame["width"]
            apart = [m["y"] + m["height"] <= row["y"] or row["y"] + row["height"] <= m["y"] for m in marks]
            assert all(apart)
    on_a_phone.set_viewport_size({"width": 390, "height": 844})


def test_on_a_phone_how_to_reproduce_it_is_not_cut(on_a_phone):
    (section,) = [
        each for each in on_a_phone.query_selector_all("section") if "How to reproduce it" in each.inner_text()
    ]
    assert section.query_selector(".wide").evaluate("wide => wide.scrollWidth - wide.clientWidth") == 0


def test_a_pointer_shows_settings_in_words_in_a_dark_box_on_a_dark_page(on_a_phone, page, study):
    found = figures(page.read_text())
    curves = [trace for trace in found["curves"][0] if "name" in trace]
    assert len(curves) >= 2
    for trace in curves:
        if trace["name"].startswith("overfits"):
            continue
        shown = trace["hovertemplate"].replace("<br>", " ")
        assert re.search(r"</b> weight decay [\d.e-]+, dropout .*, learning rate [\d.e-]{1,8} epoch", shown)
    star = found["map"][0][-1]
    assert star["name"] == "recommended"
    for name, value in study.document()["recommended"].items():
        assert setting_text({name: value}) in star["hovertemplate"].replace("<br>", " ")
    assert any("learning rate" in trace["text"].replace("<br>", " ") for trace in found["differences"][0])
    last = len(found["map"][0]) - 1
    on_a_phone.evaluate(f"Plotly.Fx.hover('figure-map', [{{ curveNumber: {last}, pointNumber: 0 }}])")
    assert on_a_phone.text_content("#figure-map .hovertext").startswith("recommended")
    box, text = (
        f"getComputedStyle(document.querySelector('#figure-map .hovertext {of}')).fill" for of in ("path", "text")
    )
    assert on_a_phone.evaluate(box) == "rgb(43, 47, 54)"
    assert on_a_phone.evaluate(text) == "rgb(232, 232, 232)"


def test_a_browser_draws_it_without_errors_and_without_the_network(page, browser, tmp_path):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=page.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--proxy-server=127.0.0.1:9"]
        command += ["--proxy-bypass-list=127.0.0.1", "--dump-dom", f"http://127.0.0.1:{server.server_port}/report.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        server.shutdown()
    assert asked == ["/report.html"]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    assert done.stdout.count('class="main-svg"') >= 8
    assert len(re.findall(r'class="point"', done.stdout)) + len(re.findall(r'<path class="point', done.stdout)) > 10
