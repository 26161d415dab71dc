"""The page on trust where rows are equally uncertain, or no answer is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dampen
from dampen.report import write_trust
from dampen.uncertainty import abstention, ranks_rows, remarks, risk, summary

N = 30


@pytest.fixture
def page(tmp_path):
    """Write the page of some columns of iris rows, and return its text without plotly's own."""

    def written(columns: dict, **changes) -> str:
        columns = {"row": np.arange(N), "_covered": np.ones(N, bool), "abstain": np.zeros(N, bool)} | columns
        calibration = {
            "rows": 40,
            "calibrator": "temperature",
            "sets": "aps",
            "noise_factor": 1.5,
            "level": 0.9,
            "temperature": 1.0,
            "coverage": 0.9,
            "abstain_above": 1.0,
        }
        document = {"data": "iris", "method": "single pass", "notes": remarks(columns, 0.9)}
        document["out_of_distribution"] = None
        document |= {"summary": summary(columns), "abstention": abstention(columns), "calibration": calibration}
        write_trust(tmp_path / "trust.html", document, columns, {}, replace(dampen.load("iris"), **changes))
        whole = (tmp_path / "trust.html").read_text()
        return whole[whole.index("</h1>") :]

    return written


def values(deviation: np.ndarray) -> dict:
    wrong = np.linspace(-1, 1, N)
    return {
        "prediction": np.zeros(N),
        "target": wrong,
        "standard_deviation": deviation,
        "_square": wrong**2,
        "_nll": wrong**2,
        "_log_likelihood": -(wrong**2),
        "_inside": np.ones(N, bool),
        "abstain": deviation > np.quantile(deviation, 0.9),
    }


def classes(probability: np.ndarray, right: np.ndarray) -> dict:
    nll = -np.log(probability)
    return {
        "probability": probability,
        "_raw": probability,
        "_right": right,
        "_right_raw": right,
        "_class": 1 - right.astype(int),
        "_probabilities": np.stack([probability, 1 - probability], 1),
        "_probabilities_calibrated": np.stack([probability, 1 - probability], 1),
        "_nll": nll,
        "_nll_calibrated": nll,
        "_brier": nll,
        "set_size": np.ones(N),
    }


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_rows_of_equal_deviation_have_neither_a_curve_nor_examples(page, noise):
    text = page(values(3.0 * (1 + noise * np.arange(N) / N)))
    assert "Off by" in text
    for absent in ("What is the gain from abstaining?", "least certain", "figure-risk"):
        assert absent not in text
    assert "are equally uncertain" in text


def test_rows_of_different_deviation_have_both(page):
    text = page(values(3.0 * (1 + 1e-3 * np.arange(N) / N)))
    for present in (
        "What is the gain from abstaining?",
        "The least certain",
        "abstaining from the least certain 10.0%",
    ):
        assert present in text


def test_examples_have_their_numbers_in_the_file(page):
    columns = values(3.0 * (1 + 0.1 * np.arange(N)))
    assert "<th>row</th><td>0</td><td>1</td>" in page(columns)
    assert "<th>row</th><td>1000</td><td>1001</td>" in page(columns, numbered=torch.arange(150) + 1000)


def test_deviations_are_equal_up_to_a_millionth():
    assert not ranks_rows({"standard_deviation": np.array([1.0, 1 + 5e-7])})
    assert ranks_rows({"standard_deviation": np.array([1.0, 1 + 2e-6])})
    assert not ranks_rows({"standard_deviation": 1e-9 * np.array([1.0, 1 + 5e-7])})


def test_without_a_wrong_answer_the_axis_begins_at_0(page):
    columns = classes(np.linspace(0.9, 0.99, N), np.ones(N, bool))
    assert risk(columns).aurc == 0
    text = page(columns)
    assert '"range":[0,0.1]' in text.replace(" ", "")
    assert "No prediction is wrong" in text
    assert '"range":[0,0.1]' not in page(classes(np.linspace(0.5, 0.99, N), np.arange(N) > 9)).replace(" ", "")


def test_every_figure_has_a_label_in_words(page):
    probability = np.linspace(0.5, 0.99, N)
    for columns in (classes(probability, np.arange(N) > 9), values(1 + np.arange(N) / N)):
        text = page(columns)
        wide = {"_covered": np.ones(N, bool), "abstain": np.zeros(N, bool)} | columns
        for key in (*summary(wide), *abstention(wide), "calibrator", "sets", "noise_factor", "level"):
            assert key in ("accuracy", "temperature") or f">{key.replace('_', ' ')}<" not in text, key
    for label in ("(SmoothECE), as it is", "(classwise ECE), after calibration", "(AUGRC)"):
        assert label in page(classes(probability, np.arange(N) > 9))
