"""Every picture of README.md and docs/, made again by the commands that those pages name.

Run as `python -m benchmarks.pictures` for all of them, or with the names of some: `report weight-decay`. Those on
Fashion-MNIST take minutes each and download it once; the report's picture is a screenshot, so it needs chromium, and so
does the moving one of `dampen play`.
Docs quote figures beside their pictures: `--log FOLDER` keeps what each command printed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from benchmarks import moving_picture

PLACE = Path(__file__).parents[1] / "docs" / "img"
# By file: the command that draws it. A path's picture comes with that of the comparison.
COMMANDS = {
    "weight-decay": ["weight-decay", "--path", "1000"],
    "dropout-fashion-mnist": ["dropout", "fashion-mnist"],
    "explore-decay": ["explore", "decay", "fashion-mnist"],
    "explore-penalty": ["explore", "penalty", "fashion-mnist"],
    "explore-epochs": ["explore", "epochs", "fashion-mnist", "--epochs", "30"],
    "explore-variance": ["explore", "variance", "fashion-mnist"],
    "explore-interaction": ["explore", "interaction", "fashion-mnist"],
}
REPORT, MOVING = "report", "play-moving"
STUDY = ["tune", "breast-cancer", "--budget", "90s"]  # what `make demo` runs
LANGUAGES = {"en": "", "zh": "-zh"}  # and what follows the name of the report's picture
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECTIONS = 3  # of the report that its picture shows: the answer, the differences, the curves
WIDTH, SEEN, MARGIN = 1000, 3000, 20  # pixels: of the picture, of what the browser draws, of white below the last text


def main() -> None:
    """Make the pictures."""
    names = [*COMMANDS, REPORT, MOVING]
    parser = argparse.ArgumentParser(description="Make the pictures of README.md and docs/ again.")
    parser.add_argument("name", nargs="*", help=f"some of: {', '.join(names)}; by default all")
    parser.add_argument("--log", type=Path, help="folder for what the commands print")
    parser.add_argument("--out", type=Path, default=PLACE, help="folder for the pictures")
    options = parser.parse_args()
    unknown = [name for name in options.name if name not in names]
    if unknown:
        sys.exit(f"there is no picture {unknown[0]!r}; there are {', '.join(names)}")
    chosen = options.name or names
    browser = find_browser() if {REPORT, MOVING} & set(chosen) else ""  # before any training
    options.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        file = options.out / f"{name}{'.webp' if name == MOVING else '.png'}"
        with tempfile.TemporaryDirectory() as folder:  # the commands overwrite no picture that they have not drawn
            drawn = Path(folder) / file.name
            if name in COMMANDS:
                said = dampen([*COMMANDS[name], "--plot", str(drawn)])
            else:
                said = (make_report if name == REPORT else moving_picture.make)(browser, drawn)
            for picture in drawn.parent.iterdir():
                shutil.copyfile(picture, options.out / picture.name)
        if options.log:
            options.log.mkdir(parents=True, exist_ok=True)
            (options.log / f"{name}.txt").write_text(said)
        print(file, flush=True)


def find_browser() -> str:
    """Return chromium's path, or end with one line."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("a picture of a page needs chromium, and there is none: apt-get install chromium, or name others")
    return found


def dampen(words: list[str]) -> str:
    """Run a command of dampen and return what it printed."""
    command = [sys.executable, "-c", "from dampen.cli import main; main()", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"dampen {' '.join(words)} ended with {done.returncode}")
    return done.stdout


def make_report(browser: str, file: Path) -> str:
    """Tune, and take a picture of the upper part of the report in each language."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        said = dampen([*STUDY, "--out", str(folder / "study")])
        rest = f"<style>section:nth-of-type(n + {SECTIONS + 1}) {{ display: none; }}</style>"
        for language, suffix in LANGUAGES.items():
            dampen(["--lang", language, "report", str(folder / "study")])
            page, picture = folder / f"page{suffix}.html", folder / f"page{suffix}.png"
            page.write_text((folder / "study" / "report.html").read_text().replace("</head>", rest + "</head>"))
            screenshot(browser, page, picture, folder / "profile")
            cut(Image.open(picture).convert("RGB")).save(file.with_stem(file.stem + suffix), optimize=True)
    return said


def screenshot(browser: str, page: Path, file: Path, profile: Path) -> None:
    """Draw a page as a browser shows it."""
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=10000", f"--window-size={WIDTH},{SEEN}"]
    command += [f"--screenshot={file}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not file.is_file():
        sys.exit(f"{browser} made no picture of {page}: {done.stderr.strip().splitlines()[-1:]}")


def cut(image: Image.Image) -> Image.Image:
    """Return a picture without the white below its last text."""
    drawn = image.crop((0, 0, image.width, SEEN - 200))  # the browser's last rows are black
    bounds = ImageChops.invert(drawn).getbbox()
    return image.crop((0, 0, image.width, bounds[3] + MARGIN)) if bounds else image


if __name__ == "__main__":
    main()
