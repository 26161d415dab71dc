"""The moving picture of README.md: `dampen play` while two moons are learnt, without and with regularisation.

It is drawn by `python -m benchmarks.pictures play-moving`, which needs chromium, and playwright and nicegui from pip.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

QUERY = "points=moons&weight_decay=1&dropout=0.3&n_seeds=8&width=64&noise=0.3&speed=10"
WIDTH, HEIGHT = 1180, 1040  # pixels: of the window
SHOWN = 0.7  # of its size
STEPS = [*range(0, 40, 4), *range(40, 120, 10), *range(120, 300, 20), *range(300, 501, 40)]
FRAME, LAST = 350, 3000  # milliseconds that a frame, and the last one, stays
QUALITY = 60  # of 100, of WebP's compression
_START = "from dampen.cli import main; main()"
_STEP = "Number((/Step ([\\d,]+)/.exec(document.body.innerText) || [0, '-1'])[1].replace(',', ''))"
_LONGEST = 300_000  # milliseconds that a frame may take to come


def make(browser: str, file: Path) -> str:
    """Draw it into a file, and return what it shows in a line.

    Args:
        browser: chromium's path.
        file: an animated WebP.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("the moving picture needs playwright: pip install playwright")
    frames = []
    with _served() as address, sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
        page.goto(f"{address}?{QUERY}")
        page.wait_for_function(f"{_STEP} >= 0", timeout=_LONGEST)
        page.wait_for_timeout(2000)  # until charts are drawn
        for step in STEPS:
            if step:
                page.wait_for_function(f"{_STEP} >= {step}", timeout=_LONGEST)
            frames.append(_small(page.screenshot()))
            if not step:
                page.get_by_role("button", name="Start").click()
        chromium.close()
    durations = [FRAME] * (len(frames) - 1) + [LAST]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=QUALITY, method=6)
    return f"{QUERY}: {len(frames)} frames, steps 0 to {STEPS[-1]}, {file.stat().st_size / 1e6:.2f} MB\n"


def _small(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return image.resize((round(image.width * SHOWN), round(image.height * SHOWN)), Image.Resampling.LANCZOS)


@contextmanager
def _served() -> Iterator[str]:
    """Serve the page in a process of its own; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _START, "play", "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not re.match("http://", address):
            sys.exit("dampen play has not started: is nicegui installed?")
        try:
            yield address
        finally:
            process.send_signal(2)  # Ctrl-C
            process.communicate(timeout=30)
