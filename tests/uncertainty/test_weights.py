"""Whatever is fitted to rows or measured on them refuses weights that can't be."""

import numpy as np
import pytest
import torch

from dampen.errors import InputError
from dampen.uncertainty import (
    ValuePrediction,
    choose,
    classwise_ece,
    conformal,
    find_temperature,
    fit_isotonic,
    fit_noise,
    fit_noise_factor,
    fit_temperature,
    fit_vector,
    reliability_of,
    selective,
    smooth_ece_of,
    tuned_raps,
)

N = 60
P = torch.rand(N, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
Y = torch.arange(N) % 3
TOP, RIGHT = P.amax(1).numpy(), (P.argmax(1) == Y).numpy()
DRAWS = torch.randn(5, N, dtype=torch.float64)
VALUES = ValuePrediction(
    DRAWS.mean(0), DRAWS.var(0), torch.ones(N, dtype=torch.float64), 5, DRAWS, torch.ones(5, N).double()
)

TAKING = {
    "choose": lambda w: choose(P, Y, weights=torch.from_numpy(w)),
    "classwise_ece": lambda w: classwise_ece(P, Y, weights=w),
    "conformal": lambda w: conformal(P[:, 0], 0.5, weights=torch.from_numpy(w)),
    "find_temperature": lambda w: find_temperature(P.log(), Y, weights=torch.from_numpy(w)),
    "fit_isotonic": lambda w: fit_isotonic(P, Y, torch.from_numpy(w)),
    "fit_noise": lambda w: fit_noise(VALUES, torch.zeros(N), torch.from_numpy(w)),
    "fit_noise_factor": lambda w: fit_noise_factor(VALUES, torch.zeros(N), torch.from_numpy(w)),
    "fit_temperature": lambda w: fit_temperature(P.log(), Y, weights=torch.from_numpy(w)),
    "fit_vector": lambda w: fit_vector(P, Y, torch.from_numpy(w)),
    "reliability_of": lambda w: reliability_of(TOP, RIGHT, weights=w),
    "selective": lambda w: selective(torch.from_numpy(~RIGHT), -P.amax(1), w),
    "smooth_ece_of": lambda w: smooth_ece_of(TOP, RIGHT, w),
    "tuned_raps": lambda w: tuned_raps(P, Y, 0.5, weights=torch.from_numpy(w)),
}
ODD = {"NaN": np.nan, "infinite": np.inf, "negative": -1.0}


@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("odd", [*ODD, "all 0"])
def test_weights_that_can_t_be_are_refused(name, odd):
    w = np.zeros(N) if odd == "all 0" else np.r_[np.ones(N - 1), ODD[odd]]
    with pytest.raises(InputError, match="weights must be finite numbers, 0 or larger, some of them above it"):
        TAKING[name](w)


@pytest.mark.parametrize("name", TAKING)
def test_a_weight_of_0_is_taken(name):
    TAKING[name](np.r_[np.zeros(5), np.ones(N - 5)])


@pytest.mark.parametrize("name", ["classwise_ece", "conformal", "selective", "smooth_ece_of"])
def test_as_many_weights_are_needed_as_there_are_rows(name):
    with pytest.raises(InputError, match=r"weights must be 60 numbers, one for each row, got the shape \[59\]"):
        TAKING[name](np.ones(N - 1))


def test_a_row_of_weight_0_is_no_evidence():
    """Few rows are wrong of those that count, all of those that don't: no sharper temperature, no other calibrator."""
    p = torch.cat([P, P]).double()
    right, wrong = P.argmax(1), (P.argmax(1) + 1) % 3
    targets, weights = torch.cat([right, wrong]), torch.cat([torch.ones(N), torch.zeros(N)])
    found = find_temperature(p.log(), targets, weights=weights)
    assert (found.value, found.wrong) == (1.0, 0.0)
    assert find_temperature(P.double().log(), right).value == 1.0
    assert choose(p, targets, weights=weights).gains == {}
    few = torch.cat([torch.ones(N // 3), torch.zeros(N - N // 3)])
    assert choose(P.double(), wrong, weights=few).gains == {}
    assert set(choose(P.double(), wrong).gains) == {"vector", "isotonic"}
