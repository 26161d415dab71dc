"""A server of the page, and a browser."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

_COMMAND = "from dampen.cli import main; main()"
_QUIET = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NICEGUI"))}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Serve the page in a process of its own: gives its address and its port."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "play", "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**_QUIET, "OMP_NUM_THREADS": "1"},
            cwd=log.parent,  # where studies are kept
        )
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), address + log.read_text()
    port = int(address.split(":")[2].strip("/"))
    yield SimpleNamespace(address=address, port=port, pid=process.pid, folder=log.parent)
    assert process.poll() is None, "the server has ended by itself"
    process.send_signal(2)  # Ctrl-C
    process.communicate(timeout=30)
    assert process.returncode == 0, log.read_text()


@pytest.fixture(scope="module")  # while it is there, an event loop runs: other modules start their own
def browser():
    """Start chromium, or skip where there is none."""
    names = "chromium", "chromium-browser", "google-chrome"
    chromium = os.environ.get("DAMPEN_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright, from pip")
    if chromium is None:
        pytest.skip("the page's tests need chromium: apt install chromium, or name one as DAMPEN_CHROMIUM")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def new_page(browser, server):
    """Make empty pages; in the end there must be no error in a console and no request to another host."""
    wrong, context = [], browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-GB")

    def made():
        page = context.new_page()
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: wrong.append(f"error: {e}"))
        page.on("request", lambda r: None if _is_own(r.url, server) else wrong.append(f"request: {r.url}"))
        return page

    yield made
    context.close()
    assert not wrong


def _is_own(url, server):
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.netloc == f"127.0.0.1:{server.port}"


@pytest.fixture
def children():
    """Return the processes below one, with what they have used of the processor, in seconds; Linux only."""
    return _children


def _children(pid):
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(stat.parent.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below, new = {}, {pid}
    while new:
        new = {child for child, (parent, _) in found.items() if parent in new}
        below |= {child: found[child][1] for child in new}
    return below
