"""Measures of calibration and abstention, prediction sets and calibrators against independent implementations.

Their figures are constants: of torch-uncertainty 0.13.0, relplot 1.0.3, MAPIE 1.6.0 and netcal 1.4.0 on `forecasts`.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from dampen import InputError
from dampen.uncertainty import (
    CALIBRATORS,
    SetRule,
    abstention,
    choose,
    class_scores,
    classwise_ece,
    conformal,
    ece,
    fit_isotonic,
    fit_vector,
    nll,
    selective,
    smooth_ece,
    smooth_ece_of,
    summary,
    tuned_raps,
    uniforms_of,
)


def forecasts():
    """600 rows of 4 classes, drawn from probabilities; the forecasts are those distorted class by class."""
    rng = np.random.default_rng(7)
    logits = 1.5 * rng.normal(size=(600, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((600, 1))).argmax(1)
    distorted = np.exp(logits * np.array([1.8, 1.2, 2.5, 0.9]) + np.array([0.5, -0.3, 0.0, 0.2]))
    return torch.from_numpy(p), torch.from_numpy(distorted / distorted.sum(1, keepdims=True)), torch.from_numpy(y)


TRUE, Q, Y = forecasts()


def test_augrc_is_torch_uncertainty_s_and_the_closed_form():
    wrong, uncertainty = Q.argmax(1) != Y, 1 - Q.amax(1)
    found = selective(wrong, uncertainty)
    assert found.augrc == pytest.approx(0.18289927641719764 * 599 / 600, abs=1e-8)  # which divides by 1 - 1 / N
    error = float(wrong.double().mean())
    auroc = roc_auc_score(wrong, uncertainty)  # of finding wrong rows; Traub et al. (2024), equation 6
    assert found.augrc == pytest.approx((1 - auroc) * (1 - error) * error + error**2 / 2, rel=1e-12)


@pytest.mark.parametrize("ties", [2, 5, 600])
def test_augrc_has_its_closed_form_whatever_the_ties(ties):
    wrong, uncertainty = Q.argmax(1) != Y, (ties * (1 - Q.amax(1))).floor()
    error, auroc = float(wrong.double().mean()), roc_auc_score(wrong, uncertainty)
    expected = (1 - auroc) * (1 - error) * error + error**2 / 2
    # equal rows are in no order: the curve is straight between the ends of a group
    assert selective(wrong, uncertainty).augrc == pytest.approx(expected, rel=1e-12)


def test_smooth_ece_is_relplot_s():
    assert smooth_ece(Q, Y) == pytest.approx(0.17477347291107034, abs=1e-3)  # on its mesh of 4000 points


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_smooth_ece_is_the_width_at_which_smoothed_residuals_add_up_to_it(sharpness):
    top = TRUE.pow(sharpness).div(TRUE.pow(sharpness).sum(1, keepdim=True)).max(1)
    confidence, right = top.values.numpy(), (top.indices == Y).numpy()
    w = smooth_ece_of(confidence, right)
    t = (np.arange(4000) + 0.5) / 4000
    images = [confidence, -confidence, 2 - confidence, confidence - 2, confidence + 2]  # reflected at 0 and 1
    kernel = sum(stats.norm.pdf((t[:, None] - image) / w) / w for image in images)
    assert np.abs(kernel @ (right - confidence) / len(right)).mean() == pytest.approx(w, abs=3e-4)


def test_smooth_ece_of_one_confidence_is_its_distance_from_the_share_of_right_rows():
    assert smooth_ece_of(np.full(100, 0.8), np.arange(100) < 60) == pytest.approx(0.2, abs=1e-3)
    assert smooth_ece_of(np.full(100, 0.8), np.arange(100) < 80) == pytest.approx(0, abs=1e-3)


def test_classwise_ece_is_torch_uncertainty_s_and_of_one_column_the_binary_one():
    assert classwise_ece(Q, Y) == pytest.approx(0.10581659230658941, abs=1e-6)
    assert ece(Q, Y) == pytest.approx(0.190649477762284, abs=1e-9)  # netcal's


def test_thresholds_and_sets_are_mapie_s():
    lac = conformal(class_scores(Q[:300], Y[:300]), 0.9)
    assert lac == pytest.approx(0.95903712, abs=1e-8)
    assert int(SetRule().sets(Q[300:], lac).sum()) == 699
    u = torch.from_numpy(1 - np.random.RandomState(3).uniform(size=300))
    rule, own = SetRule("aps"), Y[:300, None]
    scores = rule.scores(Q[:300], u).gather(1, own).squeeze(1)
    np.testing.assert_allclose(scores[:3], [0.2037302, 0.23358536, 0.49824337], atol=1e-8)
    aps = conformal(scores, 0.9)
    assert aps == pytest.approx(0.96671568, abs=1e-8)
    assert int(rule.sets(Q[300:], aps).sum()) == 520  # MAPIE's without the class that it adds by chance


def test_raps_scores_are_those_of_the_paper_row_by_row():
    u = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = SetRule("raps", 0.1, 2).scores(Q[:50], u)
    for i, row in enumerate(Q[:50].tolist()):
        for c, own in enumerate(row):
            above = [p for p in row if p > own]
            rank = len(above) + 1
            assert float(found[i, c]) == pytest.approx(sum(above) + float(u[i]) * own + 0.1 * max(rank - 2, 0))


@pytest.mark.parametrize("name", ["lac", "aps", "raps"])
def test_sets_cover_what_they_promise_and_adaptive_ones_hold_a_class(name):
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20_000, 10, generator=generator, dtype=torch.float64)
    y = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    p = (2 * logits).softmax(1)  # too sharp
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    rule = tuned_raps(p[:1000], y[:1000], 0.9, u[:1000]) if name == "raps" else SetRule(name)
    fit, new = slice(1000, 10_000), slice(10_000, None)
    threshold = conformal(rule.scores(p[fit], u[fit]).gather(1, y[fit, None]).squeeze(1), 0.9)
    sets = rule.sets(p[new], threshold, u[new])
    assert float(sets.gather(1, y[new, None]).double().mean()) == pytest.approx(0.9, abs=0.01)
    if name != "lac":
        assert bool(sets.any(1).all())


def test_vector_scaling_is_netcal_s():
    found = fit_vector(Q, Y)
    np.testing.assert_allclose(found.weights, [0.43781267, 0.68153538, 0.32355525, 0.69782257], atol=1e-4)
    np.testing.assert_allclose(found.biases, [-0.39279519, 0.57184354, -0.66829822, 0.48924969], atol=1e-4)
    assert nll(found(Q), Y) == pytest.approx(1.00699834, abs=1e-7)


def test_isotonic_regression_is_netcal_s_and_scikit_learn_s():
    found = fit_isotonic(Q, Y)(Q)
    expected = [[0.22942738, 0.44799428, 0.1386649, 0.18391344], [0.13437955, 0.10104713, 0.14866703, 0.61590629]]
    np.testing.assert_allclose(found[:2], expected, atol=1e-7)
    y = Y.numpy()
    each = [IsotonicRegression(out_of_bounds="clip").fit(q, y == c).predict(q) for c, q in enumerate(Q.numpy().T)]
    values = np.stack(each, 1).clip(1 / 602, 1 - 1 / 602)
    np.testing.assert_allclose(found, values / values.sum(1, keepdims=True), atol=1e-12)


def test_the_calibrator_is_the_one_that_the_rows_show_to_be_needed():
    assert choose(TRUE, Y).calibrator.name == "temperature"
    assert choose(Q, Y).calibrator.name == "vector"
    p = torch.linspace(0.01, 0.99, 3000, dtype=torch.float64)
    event = torch.rand(3000, generator=torch.Generator().manual_seed(0)) < torch.where(p < 0.5, 0.2, 0.9)
    assert choose(torch.stack([1 - p, p], 1), event.long()).calibrator.name == "isotonic"


def test_calibrated_probabilities_keep_their_temperature_almost_always():
    generator, kept = torch.Generator().manual_seed(2), 0
    for _ in range(40):
        p = torch.randn(150, 3, generator=generator, dtype=torch.float64).softmax(1)
        kept += choose(p, torch.multinomial(p, 1, generator=generator).squeeze(1)).calibrator.name == "temperature"
    assert kept >= 37


def test_rows_that_several_networks_predict_stay_in_one_fold():
    rows = np.tile(np.arange(600), 3)
    once, thrice = choose(Q, Y), choose(Q.repeat(3, 1), Y.repeat(3), rows=rows, repeats=3)
    for name, gain in once.gains.items():
        assert thrice.gains[name] == pytest.approx(gain, abs=2e-3)
    torch.testing.assert_close(thrice.probabilities[:600], once.probabilities, atol=1e-4, rtol=0)


def test_what_suits_single_networks_alone_is_not_chosen():
    """Each network favours a class of its own: biases fitted on two of them are wrong for a third."""
    favour = torch.eye(4, dtype=torch.float64)[:2] * 1.5
    p = torch.cat([(TRUE.log() + bias).softmax(1) for bias in favour])
    rows, networks = np.tile(np.arange(600), 2), np.repeat([0, 1], 600)
    alone = choose(p[:600], Y)
    assert alone.calibrator.name == "vector"
    together = choose(p, Y.repeat(2), rows=rows, networks=networks, repeats=2)
    assert together.calibrator.name == "temperature"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose(Q, Y, "platt"), "calibrator must be auto"),
        (lambda: SetRule("top"), "sets must be lac, aps or raps"),
        (lambda: smooth_ece_of(np.zeros(0), np.zeros(0, bool)), "needs rows"),
    ],
)
def test_what_does_not_exist_is_one_line(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrators_of_weighted_rows_are_those_of_rows_given_so_often(name):
    often = torch.from_numpy(np.random.default_rng(0).choice([1, 20], 400))
    p, y = (5 * Q[:400].log()).softmax(1), Y[:400]
    found = choose(p, y, name, weights=often.double()).calibrator(p)
    copies = choose(p.repeat_interleave(often, 0), y.repeat_interleave(often), name).calibrator(p)
    # isotonic regression ends at the share that so many rows can show, which are no copies
    np.testing.assert_allclose(found, copies, atol=2e-2 if name == "isotonic" else 1e-4)
    assert float((found - choose(p, y, name).calibrator(p)).abs().max()) > (0.1 if name == "isotonic" else 1e-3)


def test_figures_of_weighted_rows_are_those_of_rows_given_so_often():
    rng = np.random.default_rng(0)
    often = rng.integers(0, 4, 200)
    p, q, y = (2 * Q[:200].log()).softmax(1).numpy(), Q[:200].numpy(), Y[:200].numpy()
    columns = {
        "abstain": rng.random(200) < 0.2,
        "_class": y,
        "_right": q.argmax(1) == y,
        "_right_raw": p.argmax(1) == y,
        "_raw": p.max(1),
        "probability": q.max(1),
        "set_size": rng.integers(0, 4, 200),
        "_covered": rng.random(200) < 0.9,
        "_probabilities": p,
        "_probabilities_calibrated": q,
        "_nll": -np.log(p[np.arange(200), y]),
        "_nll_calibrated": -np.log(q[np.arange(200), y]),
        "_brier": ((p - np.eye(p.shape[1])[y]) ** 2).sum(1),
    }
    copied = {name: values.repeat(often, 0) for name, values in columns.items()}
    weighted = columns | {"_weight": often / often.mean()}
    for figures in (summary, abstention):
        expected, found, alike = (figures(each) for each in (copied, weighted, columns))
        for name in expected.keys() - {"n", "aurc"}:
            assert found[name] == pytest.approx(expected[name], rel=1e-6), name
            assert found[name] != pytest.approx(alike[name], rel=1e-6), name
    # its steps are rows, not copies
    order = np.argsort(-columns["probability"], kind="stable")
    w, wrong = often[order], ~columns["_right"][order]
    risk = np.cumsum(w * wrong)[w > 0] / np.cumsum(w)[w > 0]
    assert summary(weighted)["aurc"] == pytest.approx(np.average(risk, weights=w[w > 0]))


def test_the_numbers_of_randomised_sets_follow_from_the_row_wherever_it_stands():
    inputs = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(0))
    numbers = uniforms_of(inputs, 3)
    torch.testing.assert_close(
        torch.cat([uniforms_of(inputs[i : i + 1], 3) for i in range(9)]), numbers[:9], rtol=0, atol=0
    )
    assert stats.kstest(numbers, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(numbers, uniforms_of(inputs, 4))[0, 1]) < 0.05
    assert ((numbers >= 0) & (numbers < 1)).all()
