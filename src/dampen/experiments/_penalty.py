"""L1 against L2: losses, weights, zeros.

As priors: L2 is a Gaussian on each weight, L1 a Laplace distribution (Tibshirani 1996, section 5), whose peak at zero
is why weights end at exactly zero.
"""

import numpy as np
import torch
from jaxtyping import Float

from dampen.engine.knobs import Setting
from dampen.engine.knobs.weights import weight_decay
from dampen.experiments._answer import Answer, Line, Panel, Points, ends, interval_document, word_of
from dampen.experiments._setup import Ground, Trained
from dampen.statistics import over_rows

L1 = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
L2 = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_LITTLE = 0.01  # of a loss: a difference that is significant and still negligible, as in studies
QUANTILES = np.linspace(0.0, 1.0, 101)


def answer(ground: Ground) -> Answer:
    """Choose the best L1 and the best L2, train both and neither with fresh seeds, compare losses and weights."""
    none = Setting(weight_decay=0.0)
    sparse = [Setting(weight_decay=0.0, l1=strength) for strength in L1]
    smooth = [Setting(weight_decay=strength) for strength in L2]
    tried = ground.trained([*sparse, *smooth])
    l1, l2 = tried.best(sparse), tried.best(smooth)
    again = ground.trained([none, l1, l2], fresh=True)
    main = {
        "l1": again.difference(l1, none),
        "l2": again.difference(l2, none),
        "l1 minus l2": again.difference(l1, l2),
    }
    words = {"neither": none, f"L1 {l1['l1']:g}": l1, f"L2 {l2['weight_decay']:g}": l2}
    weights = {label: _weights(again, setting) for label, setting in words.items()}
    zeros = {label: over_rows((values == 0).mean(1)) for label, values in weights.items()}
    name, between = ground.metric.name, main["l1 minus l2"]
    verdict = word_of(between, "L1 is better", "L2 is better")
    little = between.excludes_zero and abs(between.mean) < _LITTLE * again.weighted({l2: 1.0}).mean
    if little:
        verdict = f"{verdict}, by less than {100 * _LITTLE:g} % of the loss"
    sentences = [
        f"L1 minus L2, each at the strength that validation rows choose, in {name}: {ends(between)}; {verdict}.",
        f"Against neither: L1 {ends(main['l1'])}, L2 {ends(main['l2'])}.",
        "Weights that are exactly 0: "
        + ", ".join(f"{label} {100 * share.mean:.3g} %" for label, share in zeros.items())
        + ". L1 is a Laplace prior on each weight: its peak at 0 makes zeros; L2 is a normal one, which only shrinks.",
    ]
    sizes = [
        Line(label, QUANTILES.tolist(), np.quantile(np.abs(values), QUANTILES, axis=1), False, i)
        for i, (label, values) in enumerate(weights.items())
    ]
    losses = tried.history.final("validation_loss").T
    strengths = [
        Line("L1", L1, losses[: len(L1)], True, 1),
        Line("L2", L2, losses[len(L1) :], True, 2),
    ]
    share = np.stack([(_weights(tried, setting) == 0).mean(1) for setting in sparse])
    labels = list(words)
    panels = (
        Panel(
            f"change of the {name}",
            f"{name} minus that without either; left of 0 is better",
            "",
            Points(labels[1:], [main["l1"], main["l2"]]),
        ),
        Panel("loss on the selection rows", "strength", "loss", strengths, log_x=True, log_y=True),
        Panel(
            "zeros of L1", "strength", "share of the weights that are exactly 0", [Line("L1", L1, share)], log_x=True
        ),
        Panel("sizes of the weights", "share of the weights that are smaller", "|weight|", sizes),
    )
    more = {
        "chosen": {"l1": l1["l1"], "l2": l2["weight_decay"]},
        "zeros": {
            which: interval_document(share)
            for which, share in zip(("neither", "l1", "l2"), zeros.values(), strict=True)
        },
    }
    return Answer("penalty", ground.data.name, verdict, tuple(sentences), main, panels, more)


def _weights(trained: Trained, setting: Setting) -> Float[np.ndarray, "S W"]:
    """Return all weights that are penalised, for each seed."""
    weights = []
    for seed in trained.population.seeds:
        network = trained.population.member(setting, seed)
        on = weight_decay.decayed(network)
        weights.append(torch.cat([p.detach().flatten() for name, p in network.named_parameters() if on[name]]).numpy())
    return np.stack(weights)
