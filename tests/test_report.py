"""The report of a study: one file that a browser shows without a network."""

import functools
import http.server
import re
import shutil
import subprocess
import threading

import pytest

import dampen
from dampen import Setting, compare, tune

SMALL = {"settings": 9, "seeds": 2, "epochs": 4, "confirm_seeds": 5}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    tune(dampen.mlp(8, 8, dropout=0.1), dampen.load("wine"), per_layer=True, **SMALL).report(folder / "report.html")
    return folder / "report.html"


def test_it_says_everything_in_one_file_of_modest_size(page):
    text = page.read_text()
    assert len(text) < 6e6
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Where the good settings are",
        "How the confirmed settings learned",
        "What decay does to overfitting",
        "What was dropped when",
        "The test set, opened once",
        "How to repeat it",
    ]
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", text)


def test_a_comparison_has_a_report_without_a_search(tmp_path):
    settings = {"none": Setting(), "<b>odd</b>": Setting(weight_decay=0.1)}
    compare(dampen.mlp(8), dampen.load("wine"), settings, seeds=3, epochs=2).report(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "Where the good settings are" not in text
    assert "<b>odd</b>" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    study = compare(dampen.mlp(8), dampen.load("wine"), [Setting(), Setting(weight_decay=0.1)], seeds=2, epochs=1)
    with pytest.raises(dampen.InputError, match="can't be written"):
        study.report(tmp_path / "file" / "r.html")


def test_a_browser_draws_it_without_errors_and_without_the_network(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium to look at the report with")
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
