"""What a person does on the page, in a browser: start, move a slider, switch the language, follow a link."""

import re
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest

SMALL = "n_points=50&n_seeds=2&width=4&depth=1&speed=100"  # little to train, so that the tests are short
FRAMES = "window.dampenFrames > {}"


@pytest.fixture
def open_page(new_page, server):
    """Open a page at a query."""

    def opened(query=SMALL):
        page = new_page()
        page.goto(f"{server.address}?{query}")
        page.wait_for_function(FRAMES.format(0))
        return page

    return opened


def _step(page):
    return int(re.search(r"(?:Step|第) ([\d,]+)", page.locator("body").inner_text())[1].replace(",", ""))


def _press(page, slider, key):
    focusable = page.get_by_role("slider", name=slider, exact=True).locator("[tabindex='0']")
    focusable.focus()
    focusable.press(key)


def _options(page, chart):
    """Return what a chart shows now."""
    script = "e => { const o = getElement(Number(e.id.slice(1))).chart.getOption(); return [o.dataset, o.series]; }"
    data, series = page.get_by_role("img", name=chart, exact=True).evaluate(script)
    return data[0]["source"], {one["id"]: one for one in series}


def _query(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_slider_that_moves_while_it_trains_turns_the_curve_and_is_marked(open_page):
    page = open_page(SMALL + "&lr=0.1&weight_decay=0.01&dropout=0")
    assert _step(page) == 0
    assert "Not trained yet" in page.locator("body").inner_text()
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("/Step ([3-9]\\d|\\d{3})/.test(document.body.innerText)")
    _press(page, "Weight decay", "PageUp")  # 10: each step multiplies the weights by 1 - 0.1 * 10, as no other does
    page.wait_for_function("location.search.includes('weight_decay=10')")
    at = _step(page)
    page.wait_for_function(f"Number(/Step (\\d+)/.exec(document.body.innerText)[1]) > {at + 30}")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)
    source, series = _options(page, "Loss")
    marks = series["chosen_test"]["markLine"]["data"]
    assert [mark["label"]["formatter"] for mark in marks] == ["Weight decay 10"]
    assert 0 < marks[0]["xAxis"] < _step(page)
    assert source["step"] == sorted(source["step"])
    norms, _ = _options(page, "Norm of the weights")
    before = max(i for i, step in enumerate(norms["step"]) if step <= marks[0]["xAxis"])
    assert norms["chosen"][-1] < 0.5 * norms["chosen"][before]
    assert norms["none"][-1] > 0.9 * norms["none"][before]
    paused = _step(page)
    page.get_by_role("button", name="Step", exact=True).click()
    page.wait_for_function(f"document.body.innerText.includes('Step {paused + 1},')")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("document.body.innerText.includes('Step 0,')")
    _, series = _options(page, "Loss")
    assert series["chosen_test"]["markLine"]["data"] == []


def test_the_language_is_switched_and_the_lesson_stays(open_page):
    page = open_page(SMALL + "&dropout=0.5")
    page.get_by_role("button", name="中文").click()
    page.get_by_role("button", name="开始").wait_for()
    assert _query(page) == {"lang": "zh", "dropout": "0.5"} | {k: v[0] for k, v in parse_qs(SMALL).items()}
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.wait_for_function(FRAMES.format(0))
    _press(page, "暂退率（dropout）", "ArrowRight")
    page.wait_for_function("location.search.includes('dropout=0.55')")
    assert _query(page)["lang"] == "zh"
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Start").wait_for()
    assert _query(page)["dropout"] == "0.55"


def test_a_link_opens_the_same_lesson_and_tells_what_it_cannot_use(open_page):
    query = SMALL + "&points=xor&noise=0.1&surface=seeds"
    pages = [open_page(query + more) for more in ("", "&width=1e9<img src=x onerror=alert(1)>")]
    pictures = [page.get_by_role("img", name=re.compile("With your")).get_attribute("src") for page in pages]
    assert pictures[0].startswith("data:image/png")
    assert pages[0].get_by_role("combobox", name="Shape").input_value() == "XOR"
    note = " ".join(pages[1].get_by_role("alert").all_inner_texts())
    assert "width is given more than once" in note
    assert "width must be a whole number from 1 to 64" in note
    assert "<img" in note  # as text
    assert pages[1].locator("img[src=x]").count() == 0
    pages[1].wait_for_url(lambda url: "width" not in url and "n_seeds=2" in url)  # what is shown


def test_a_curve_is_drawn_as_a_line_with_its_band(open_page):
    page = open_page(SMALL + "&points=curve")
    assert page.get_by_role("slider", name="Label smoothing").count() == 0
    page.get_by_role("button", name="Step", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('Step 1,')")
    source, _ = _options(page, "Predictions over the inputs: With your regularisation")
    assert len(source["step"]) == len(source["predicted"]) == len(source["predicted_low"])
    assert all(span >= 0 for span in source["predicted_span"])


@pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc")
def test_two_tabs_are_two_lessons_a_paused_one_rests_and_a_closed_one_frees_its_process(open_page, server, children):
    idle = set(children(server.pid))
    first, second = open_page(), open_page()
    mine = set(children(server.pid)) - idle
    assert len(mine) == 2
    first.get_by_role("button", name="Start").click()
    first.wait_for_function("/Step [1-9]/.test(document.body.innerText)")
    assert _step(second) == 0
    first.get_by_role("button", name="Pause").click()
    first.wait_for_timeout(500)
    before = children(server.pid)
    first.wait_for_timeout(1000)
    assert all(children(server.pid)[pid] - before[pid] < 0.1 for pid in mine)  # seconds of the processor
    first.close()
    ends = time.monotonic() + 15
    while len(set(children(server.pid)) & mine) > 1 and time.monotonic() < ends:
        second.wait_for_timeout(200)
    assert len(set(children(server.pid)) & mine) == 1
    second.get_by_role("button", name="Step", exact=True).click()
    second.wait_for_function("document.body.innerText.includes('Step 1,')")


def test_a_phone_has_one_column_and_nothing_beside_the_screen(open_page):
    page = open_page()
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    left = {page.get_by_role("slider", name=name, exact=True).bounding_box()["x"] for name in ("Dropout", "Noise")}
    assert len(left) == 1
