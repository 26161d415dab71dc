"""Dropout rates of the layers: change them, swap them."""

import numpy as np

from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.experiments._answer import Answer, Panel, Points, ends
from dampen.experiments._setup import Ground

LOW, HIGH = 0.3, 0.5


def answer(ground: Ground) -> Answer:
    """Train rising, falling, equal and one-layer rates; each against no dropout, and rising against falling."""
    n = ground.layers
    if n < 2:
        raise InputError("swapping rates needs at least 2 hidden layers, such as --hidden 256,128")
    rising = tuple(round(float(p), 3) for p in np.linspace(LOW, HIGH, n))
    alone = [tuple(HIGH if i == j else 0.0 for j in range(n)) for i in range(n)]
    rates = [(0.0,) * n, rising, rising[::-1], (LOW,) * n, (HIGH,) * n, *alone]
    settings = {p: Setting(dropout=p) for p in dict.fromkeys(rates)}
    trained = ground.trained(list(settings.values()))
    none = settings[(0.0,) * n]
    against = {_label(p): trained.difference(s, none) for p, s in settings.items() if s != none}
    swap = trained.difference(settings[rising], settings[rising[::-1]])
    order = trained.best()
    name = ground.metric.name
    same = not swap.excludes_zero
    better = _label(rising if swap.mean < 0 else rising[::-1])
    sentences = [
        f"Swapping {_label(rising)} for {_label(rising[::-1])} "
        + ("makes no significant difference: " if same else f"matters, {better} is better: ")
        + f"the first minus the second is {ends(swap)} in {name}.",
        "Against no dropout: " + "; ".join(f"{label} {ends(e)}" for label, e in against.items()) + ".",
        f"Validation rows would choose {_label(order['dropout'])}.",
    ]
    panel = Panel(
        f"change of the {name} by dropout",
        f"{name} minus that without dropout; left of 0 is better",
        "",
        Points(list(against), list(against.values())),
    )
    verdict = "no significant difference" if same else f"{better} is better"
    main = {"swap": swap, **against}
    return Answer("rates", ground.data.name, verdict, tuple(sentences), main, (panel,), {"chosen": order["dropout"]})


def _label(rates: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{p:g}" for p in rates) + ")"
