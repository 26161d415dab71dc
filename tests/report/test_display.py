"""What a notebook and `print` show: short lines and tables in which texts are texts, and figures of the report."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

import dampen
from dampen import Setting
from dampen._html import ROWS, table
from dampen.errors import InputError


@pytest.fixture(scope="module")
def study():
    settings = [Setting(), Setting(dropout=0.3)]
    return dampen.compare(dampen.mlp(4), dampen.load("iris"), settings, 2, epochs=2, validation="held-out")


def test_a_verdict_shows_its_sentences_and_its_repr_is_the_first(study):
    lead, *rest = study.verdict.sentences()
    assert repr(study.verdict) == f"<Verdict: {lead}>"
    shown = study.verdict._repr_html_()
    assert f"<strong>{lead}</strong>" in shown
    assert shown.count("<li>") == len(rest)


def test_predictions_show_their_first_rows_and_how_many_more_there_are(study):
    with pytest.warns(dampen.DataWarning):  # few rows to calibrate on
        calibrated = study.calibrated(samples=0)
    found = calibrated.predict(study.data)
    assert repr(found).startswith(f"<CalibratedClasses of {len(found)} rows, abstaining from")
    assert found._repr_html_().count("<tr>") == ROWS + 1
    assert f"{len(found) - ROWS} more rows" in found._repr_html_()
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    sampled = dampen.mc_dropout(network, torch.ones(2, 4), samples=5, task="classification")
    assert repr(sampled) == "<ClassPrediction of 2 rows: 3 classes, 5 samples>"
    assert sampled._repr_html_().count("<tr>") == 3
    values = dampen.mc_dropout(network, torch.ones(12, 4), samples=5, task="regression")
    assert repr(values) == "<ValuePrediction of 12 rows: 5 samples>"
    assert "2 more rows" in values._repr_html_()


def test_data_shows_what_its_columns_become_and_texts_are_texts(tmp_path):
    rows = "\n".join(f"{i},{'rg'[i % 2]},{i % 7}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"<b>size,colour,price\n{rows}")
    data = dampen.load(tmp_path / "t.csv", target="price", task="regression")
    shown = data._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;size" in shown
    assert "<th>read as</th>" in shown
    assert len(repr(data)) < 200
    assert "60" not in table({"a": [1]})


@pytest.mark.parametrize("name", ["curves", "differences"])
def test_a_figure_is_the_reports(study, name):
    figure = study.figure(name)
    assert isinstance(figure, go.Figure)
    assert len(figure.data) > 0
    if name == "differences":
        shown = np.array([trace.x[0] for trace in figure.data])
        held = [of["difference"] for of in study.document()["references"].values() if of["difference"]]
        assert set(shown) <= set(held)


def test_a_figure_that_is_not_there_is_one_line(study):
    wrong = {"gain": "this study has nothing to draw as 'gain'", "map": "there is no figure 'map'"}
    for name, line in [*wrong.items(), ([], r"there is no figure \[\]"), (None, "there is no figure None")]:
        with pytest.raises(InputError, match=line):
            study.figure(name)
