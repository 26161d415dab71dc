"""What a person does on the pages beside the lesson, in a browser: the two studies, a table of their own, a search."""

import re
import time
from urllib.request import urlopen

import pytest

from dampen._language import shown, speaking


@pytest.fixture
def open_page(new_page, server):
    """Open a page at a path, once it shows a text."""

    def opened(path, ready):
        page = new_page()
        page.goto(server.address.rstrip("/") + path)
        page.get_by_text(ready).first.wait_for()
        return page

    return opened


def _options(page, chart):
    """Return what a chart shows now."""
    script = "e => getElement(Number(e.id.slice(1))).chart.getOption()"
    return page.get_by_role("img", name=chart, exact=True).evaluate(script)


def test_weight_decay_shows_both_curves_and_the_norm_beside_the_closed_form(open_page):
    page = open_page("/decay?weight_decay=5", "Epoch 0 of 100")
    page.get_by_text("Not trained yet").wait_for()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Epoch 100 of 100").wait_for()
    page.get_by_text("Decay lowers the test loss").wait_for()
    losses = _options(page, "Loss")
    assert losses["yAxis"][0]["type"] == "log"
    source = losses["dataset"][0]["source"]
    assert source["step"] == list(range(101))
    assert source["none_test"][-1] > 50 > 1 > source["chosen_test"][-1]
    assert source["none_train"][-1] < 1e-3
    trained, theory = (one["source"] for one in _options(page, "Norm of the weights ‖w‖")["dataset"])
    assert trained["chosen"][-1] == pytest.approx(theory["descent"][-1], rel=0.02)
    assert trained["none"][-1] > 10 > trained["chosen"][-1] > theory["ridge"][-1]
    slider = page.get_by_role("slider", name="weight decay λ").locator("[tabindex='0']")
    slider.focus()
    slider.press("PageDown")
    slider.press("PageDown")  # without any decay both are the same training, and it begins at once
    page.get_by_text("No significant difference in test loss: 0 ").wait_for()
    page.wait_for_url("**weight_decay=0*")


def test_dropout_shows_its_epochs_and_what_monte_carlo_samples_say_of_an_image(open_page):
    page = open_page("/dropout?rows=200&epochs=1", "Epoch 0 of 1")
    assert page.get_by_role("button", name="Next").is_disabled()
    assert "No data available" not in page.locator("body").inner_text()
    assert not page.get_by_role("img", name="Sampled probabilities").count()  # nothing is drawn yet
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Epoch 1 of 1, 200 training images").wait_for()
    page.get_by_text("nats").first.wait_for()
    text = page.locator("body").inner_text()
    assert re.search(r"Epoch 1/1 — Train: loss=\d\.\d{4}, acc=\d\.\d{4} \| Test: loss=\d\.\d{4}, acc=\d\.\d{4}", text)
    entropy, information = (float(re.search(rf"{name}\s+([\d.]+) nats", text)[1]) for name in _NUMBERS)
    assert 0 < information < entropy < 2.31  # log of 10 classes
    assert re.search(r"(Believe|Do not rely on) it: its entropy is .* Of the \d+ test images .*% are right", text)
    source = _options(page, "Sampled probabilities")["dataset"][0]["source"]
    assert [sum(source[f"class_{i}"][:-1]) for i in range(3)] == [100, 100, 100]  # the last one is drawn to the edge
    page.get_by_role("button", name="Least certain").click()
    page.wait_for_url("**image=*")
    page.get_by_text("Do not rely on it").wait_for()
    first = re.search(r"image=(\d+)", page.url)[0]
    page.get_by_role("button", name="Least certain").click()
    page.wait_for_function("image => !location.search.includes(image)", arg=first)  # the second of the list
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Least certain").click()
    page.wait_for_url(f"**{first}")  # and from its beginning again


_NUMBERS = ("Predictive entropy", "Mutual information")


def test_a_table_of_ones_own_trains_and_a_broken_one_is_refused_in_a_line(open_page, tmp_path):
    wrong = "data=/etc/passwd&x=nope&lang=fr&dark=7&other=1"
    page = open_page(f"/data?n_seeds=2&width=4&depth=1&{wrong}", "Step 0")
    notes = " ".join(page.get_by_role("alert").all_inner_texts())
    for told in ("data must be", "x must be", "lang must", "dark must", "'other' is nothing"):
        assert told in notes
    page.wait_for_url(lambda url: "data=iris&" in url and not re.search("etc|nope|lang|dark|other", url))
    assert "petal length" in page.locator("body").inner_text()
    broken = tmp_path / "broken.csv"
    broken.write_text('a,b,target\n"1,2,3\n')
    page.locator("input[type=file]").set_input_files(broken)
    refused = page.locator(".dampen-page").get_by_role("alert")
    refused.get_by_text("broken.csv is ragged or cut off").wait_for()
    assert "/" not in refused.inner_text()  # no path of this machine
    rows = [f"{i},{i % 7},{'yes' if i % 2 else 'no'},{3 * i}" for i in range(60)]
    own = tmp_path / "houses.csv"
    own.write_text("\n".join(["size,<b>rooms</b>,<img src=x onerror=alert(1)>,price", *rows]))
    page.locator("input[type=file]").set_input_files(own)
    page.get_by_text("Choose the column to predict.").wait_for()
    page.wait_for_url(lambda url: "n_seeds=2" in url and "data=" not in url)
    page.get_by_role("combobox", name="Column to predict").click()
    page.get_by_role("option", name="price").click()
    page.get_by_text("houses: regression, 45 training and 15 test rows").wait_for()
    text = page.locator("body").inner_text()
    assert "<b>rooms</b>" in text  # as text
    assert "two values" in text
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name="Step", exact=True).click()
    page.get_by_text("Step 1,").wait_for()
    picture = page.get_by_role("img", name="Predictions over the inputs: With your regularisation")
    before = picture.get_attribute("src")
    page.get_by_role("combobox", name="Vertical axis").click()
    page.get_by_role("option", name="onerror").click()
    page.wait_for_function("([e, src]) => e.src !== src", arg=[picture.element_handle(), before])
    page.get_by_text("Step 1,").wait_for()  # nothing has started again


TINY = "/tune?data=iris&n_settings=4&n_seeds=1&epochs=12&n_confirm_seeds=2&confirmed=1&hidden=4"


def test_a_search_stops_goes_on_and_ends_in_its_verdict_and_report(open_page, server):
    page = open_page(TINY, "iris: classification")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("networks to epoch").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped. What iris-1 has found is kept").wait_for()
    folder = server.folder / "dampen-runs" / "iris-1"
    assert (folder / "plan.json").is_file()
    deadline = time.monotonic() + 60
    page.get_by_role("button", name="Resume iris-1").click()
    page.get_by_text("Open the report").wait_for(timeout=60_000)
    assert time.monotonic() < deadline
    text = page.locator("body").inner_text()
    for sentence in _sentences(folder):
        assert sentence in text
    series = {one["id"]: one["data"] for one in _options(page, "The settings tried")["series"]}
    places = [point[:2] for point in series["alive"] + series["dropped"]]
    assert len(series["chosen"]) == 1
    assert series["chosen"][0] in places
    assert len(places) in (4, 5)  # a reference may be recommended, which the search has not drawn
    address = server.address.rstrip("/") + page.get_by_role("link", name="Open the report").get_attribute("href")
    (folder / "report.html").write_text("<script>stranger()</script>")
    with urlopen(address) as answer:
        assert "sandbox" in " ".join(answer.headers.get_all("content-security-policy"))
        body = answer.read().decode()
    assert "stranger()" not in body
    assert _sentences(folder)[0].split(":")[0] in body
    page.reload()
    page.get_by_role("button", name="Open iris-1").click()
    page.get_by_text("Open the report").wait_for()
    chinese = open_page("/tune?lang=zh", "dampen-runs 中的研究")
    chinese.get_by_role("button", name="打开 iris-1").click()
    chinese.get_by_text("打开报告").wait_for()
    text = chinese.locator("body").inner_text()
    with speaking("zh"):
        for sentence in _sentences(folder):
            assert shown(sentence) != sentence
            assert shown(sentence) in text
    address = server.address.rstrip("/") + chinese.get_by_role("link", name="打开报告").get_attribute("href")
    with urlopen(address) as answer:
        assert 'lang="zh-Hans"' in answer.read().decode()
    (folder / "study.json").write_text("{}")
    page.get_by_role("button", name="Open iris-1").click()
    page.get_by_text("Open the report").wait_for(state="hidden")
    assert "study.json" in page.get_by_role("alert").inner_text()


def _sentences(folder):
    import dampen

    return dampen.load_study(folder).sentences()
