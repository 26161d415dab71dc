"""Networks for tables against their formulas, written out."""

import math

import pytest
import torch

import dampen
from dampen import InputError
from dampen.models import Periodic


def test_waves_are_the_sums_that_the_paper_has():
    """Each value is a combination of cosines of one number: Gorishniy, Rubachev and Babenko (2022), equation 2."""
    torch.manual_seed(0)
    layer, rows = Periodic(4, columns=(3, 1)), torch.randn(5, 4)
    found = layer(rows)
    assert found.shape == (5, 4 + 2 * 3)
    assert layer.width == 10
    assert torch.equal(found[:, :4], rows)
    for b in range(5):
        for n, column in enumerate((3, 1)):
            for v in range(3):
                value = layer.bias[n, v].item()
                for w in range(16):
                    turns = layer.frequencies[n, w].item() * rows[b, column].item()
                    value += layer.weight[n, w, v].item() * math.cos(2 * math.pi * turns + layer.phases[n, w].item())
                assert found[b, 4 + 3 * n + v].item() == pytest.approx(value, abs=1e-5)


def test_all_inputs_or_none_are_embedded():
    assert dampen.tabular(8, periodic=True)(5, 2)[2].width == 20
    plain = dampen.tabular(8)(5, 2)
    assert [type(layer) for layer in dampen.tabular(8, periodic=())(5, 2)] == [type(layer) for layer in plain]


@pytest.mark.parametrize(
    ("periodic", "message"),
    [
        ((0, 0), "places of different inputs, whole numbers from 0 on, got \\(0, 0\\)"),
        ((-1,), "whole numbers from 0 on"),
        ((5,), "names input 5, and a row has 5"),
    ],
)
def test_places_that_cannot_be_are_refused(periodic, message):
    with pytest.raises(InputError, match=message):
        dampen.tabular(8, periodic=periodic)(5, 2)
