"""The notebooks run to their last cell; one that trains shows a bar, one that ends in a study its verdict."""

import os
import re
from pathlib import Path

import pytest

import dampen

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
QUICK = "tutorial"
SECONDS = 280  # for a cell, and for a kernel to start: a busy machine's
nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat, from pip")


class Ran:
    """A notebook that was executed.

    Args:
        cells: with their outputs.
        moved: what took the place of an output, as text, in the order in which it came.
    """

    def __init__(self, name: str, folder: Path):
        import nbclient

        moved: list[str] = []

        class Client(nbclient.NotebookClient):
            def process_message(self, message, cell, cell_index):
                if message["msg_type"] == "update_display_data":
                    moved.append(message["content"]["data"]["text/plain"])
                return super().process_message(message, cell, cell_index)

        held = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        there = {"PYTHONPATH": str(Path(dampen.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        there |= {"PLOTLY_RENDERER": "plotly_mimetype", "IPYTHONDIR": str(folder), "MPLCONFIGDIR": str(folder)}
        client = Client(held, timeout=SECONDS, startup_timeout=SECONDS, kernel_name="python3")
        client.resources = {"metadata": {"path": str(folder)}}
        client.execute(env=os.environ | there)
        self.cells, self.moved = [cell for cell in held.cells if cell.cell_type == "code"], moved

    def outputs(self, code: str) -> list[dict]:
        """Return what the cell that contains some code shows: texts by their type."""
        (cell,) = [cell for cell in self.cells if code in cell.source]
        return [output.get("data", {}) for output in cell.outputs]


def test_notebooks_are_kept_without_outputs_and_are_on_the_page():
    for name in NAMES:
        cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
        assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    page = (FOLDER.parent / "notebooks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", page)) == set(NAMES)


def test_a_notebooks_links_lead_to_files():
    for name in NAMES:
        targets = re.findall(r"\]\(([^)#\s]+)", (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
        assert [target for target in targets if not (FOLDER / target).exists()] == []


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    pytest.importorskip("nbclient", reason="notebooks are executed by nbclient, from pip")
    pytest.importorskip("ipykernel", reason="notebooks run in ipykernel, from pip")
    return Ran(QUICK, tmp_path_factory.mktemp("notebook"))


def test_a_cell_that_trains_has_one_bar_which_moves_to_its_end(tutorial):
    (bar,) = tutorial.outputs("dampen.tune(")
    assert re.search(r"done in \d+ s.*100%", bar["text/html"], re.DOTALL)
    assert "100%" in tutorial.moved[-1]
    shares = [int(re.search(r"(\d+)%", text)[1]) for text in tutorial.moved]
    assert shares == sorted(shares)
    assert re.search(r"search: \d+ members to epoch \d+", tutorial.moved[0])


def test_a_cell_shows_a_study_in_words_with_its_picture_and_figures_that_move(tutorial):
    (data,) = tutorial.outputs("dampen.load(")
    assert "<th>read as</th>" in data["text/html"]
    (study,) = [shown for cell in tutorial.cells if cell.source == "study" for shown in (cell.outputs[0].data,)]
    assert re.search(r"<strong>.*</strong>", study["text/html"])
    assert "data:image/png;base64," in study["text/html"]
    for name in ("landscape", "curves"):
        (figure,) = tutorial.outputs(f'study.figure("{name}")')
        assert figure["application/vnd.plotly.v1+json"]["data"]
    (predicted,) = tutorial.outputs("study.calibrated(")
    assert "<th>epistemic</th>" in predicted["text/html"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != QUICK])
def test_a_notebook_runs(name, tmp_path):
    pytest.importorskip("nbclient", reason="notebooks are executed by nbclient, from pip")
    cells = Ran(name, tmp_path).cells
    assert all(cell.execution_count for cell in cells)


def test_a_script_shows_no_bar(capfd, without_shape_checks):
    settings = [dampen.Setting(), dampen.Setting(dropout=0.3)]
    dampen.compare(dampen.mlp(4), dampen.load("iris"), settings, 2, epochs=1, validation="held-out")
    assert capfd.readouterr() == ("", "")
