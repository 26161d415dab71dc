"""Seconds of a whole study against ordinary ways to search, and whether its winner is as good as an exhaustive one's.

64 settings x 3 seeds, up to 10 epochs, on Fashion-MNIST (784-256-128-10, batch 128): `dampen.tune` from the data to the
written report, confirmation, last training and test set included. Beside it

- the script: a `DataLoader` with a transform for each image; some of its epochs are measured and multiplied to the
  64 x 3 x 10 epochs that it would take one after the other;
- Optuna with its successive-halving pruner over a well-written loop (rows in memory, fused AdamW), the same space,
  settings, seeds and epochs. How many epochs its pruner spends is counted in a run on a tenth of the rows, what an
  epoch takes is measured on all of them. It ends with a best trial and no verdict; the time that confirmation and last
  training would add is told, too.

On digits Optuna runs whole. Run as `python -m benchmarks.tune --json`, with DAMPEN_DATA naming Fashion-MNIST's folder.
"""

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import dampen
from benchmarks import rivals, rows
from benchmarks.population import fashion
from benchmarks.rows import Row
from dampen.data import Data
from dampen.engine import Model
from dampen.search import Training
from dampen.statistics import over_seeds_and_rows
from dampen.study import usual_batch_size

SETTINGS, SEEDS, EPOCHS, EPOCHS_OF_DIGITS = 64, 3, 10, 30
FRESH_SEEDS = range(5_000_000, 5_000_020)  # for comparing winners
SPACE = {
    "weight_decay": dampen.LogUniform(1e-5, 1.0, zero=0.1),
    "dropout": dampen.Uniform(0.0, 0.7),
    "lr": dampen.LogUniform(3e-4, 3e-3),
}
NETWORK, SMALL = dampen.mlp(256, 128, dropout=0.5), dampen.mlp(64, dropout=0.5)  # the small one is for digits


@dataclass
class Pruned:
    """An Optuna study over a well-written loop, its seeds trained side by side so that it prunes on their mean.

    Args:
        folds: for each seed, the data whose training rows it sees and whose validation rows rank.
        hidden: widths of the network's hidden layers.
        epochs: length of a full training.
        batch_size: rows a step.
    """

    folds: Sequence[Data]
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    member_epochs: int = 0
    seconds_of_epochs: list[float] = field(default_factory=list)

    def run(self, trials: int, prune: bool = True) -> float:
        """Return the seconds that so many trials take."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        study = optuna.create_study(
            sampler=optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False),
            pruner=pruner if prune else optuna.pruners.NopPruner(),
        )
        started = time.perf_counter()
        study.optimize(self._objective, trials)
        return time.perf_counter() - started

    def _objective(self, trial: Any) -> float:
        import optuna

        decay = trial.suggest_float("weight_decay", 1e-5, 1.0, log=True)
        p, lr = trial.suggest_float("dropout", 0.0, 0.7), trial.suggest_float("lr", 3e-4, 3e-3, log=True)
        members = [self._member(fold, seed, decay, p, lr) for seed, fold in enumerate(self.folds)]
        cost = float("inf")
        for epoch in range(1, self.epochs + 1):
            started = time.perf_counter()
            cost = float(np.mean([member() for member in members]))
            self.seconds_of_epochs.append((time.perf_counter() - started) / len(members))
            self.member_epochs += len(members)
            trial.report(cost, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return cost

    def _member(self, fold: Data, seed: int, decay: float, p: float, lr: float) -> Callable[[], float]:
        torch.manual_seed(seed)
        train, validation = fold.train, fold.validation
        network = dampen.mlp(*self.hidden, dropout=p)(train.features[0].numel(), fold.outputs)
        weights = [w for w in network.parameters() if w.ndim > 1]
        biases = [w for w in network.parameters() if w.ndim == 1]
        groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
        inputs = train.features.flatten(1)
        epoch = rivals.plain(network, inputs, train.targets, self.batch_size, optimizer)

        def one_more() -> float:
            network.train()
            epoch()
            network.eval()
            with torch.no_grad():
                return F.cross_entropy(network(validation.features.flatten(1)), validation.targets).item()

        return one_more


def whole_study(network: Model, data: Data, **options: Any) -> tuple[float, dampen.Study]:
    """Return the seconds from the data to the report, and the study."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = dampen.tune(
            network, data, SPACE, n_settings=SETTINGS, n_seeds=SEEDS, out=Path(folder) / "study", **options
        )
        found.report(Path(folder) / "report.html")
        return time.perf_counter() - started, found


def after_search(found: dampen.Study) -> float:
    """Return how many epochs of members the confirmation and the last training took."""
    frame = found.frame()
    after = frame[frame["phase"] != "search"]
    return float(after.groupby(["run", "setting", "seed"])["epoch"].max().sum())


def fashion_mnist(data: Data) -> list[Row]:
    """Measure the large study."""
    pixels, targets, _ = fashion(60_000)
    script = rivals.script(pixels, targets)
    order = torch.randperm(len(data.train_rows), generator=torch.Generator().manual_seed(0))
    train, ranking = order[:48_000], order[48_000:54_000]
    split = replace(data, train_rows=data.train_rows[train], validation_rows=data.train_rows[ranking])

    def measure_rivals() -> tuple[float, list[float]]:
        started = time.perf_counter()
        script()
        one = time.perf_counter() - started
        part = Pruned([split] * SEEDS, NETWORK.hidden, 2, 128)
        part.run(1, prune=False)
        return one, part.seconds_of_epochs

    before = measure_rivals()
    seconds, found = whole_study(NETWORK, data, epochs=EPOCHS)
    between = measure_rivals()
    seconds_bf16, found_bf16 = whole_study(NETWORK, data, epochs=EPOCHS, precision="bfloat16")
    after = measure_rivals()
    of_script = statistics.median([before[0], between[0], after[0]]) * SETTINGS * SEEDS * EPOCHS
    of_epoch = statistics.median([*before[1], *between[1], *after[1]])

    tenth = replace(split, train_rows=split.train_rows[:4_800])
    counted = Pruned([tenth] * SEEDS, NETWORK.hidden, EPOCHS, 128)
    counted.run(SETTINGS)
    search = counted.member_epochs * of_epoch
    confirming = after_search(found) * of_epoch
    return [
        Row("fashion-mnist: the whole study, float32", seconds, "s"),
        Row("fashion-mnist: epochs of members that it trained", found.member_epochs, ""),
        Row("fashion-mnist: the whole study, bfloat16", seconds_bf16, "s"),
        Row("fashion-mnist: the script, 1920 epochs one after the other (3 measured)", of_script, "s"),
        Row("fashion-mnist: Optuna's search (epochs counted on a tenth of the rows)", search, "s"),
        Row("fashion-mnist: epochs of members that Optuna's search trains", counted.member_epochs, ""),
        Row("fashion-mnist: Optuna's search, then confirmation and last training", search + confirming, "s"),
        Row("fashion-mnist: study against the script, float32", of_script / seconds, bar=25),
        Row("fashion-mnist: study against the script, bfloat16", of_script / seconds_bf16, bar=40),
        Row("fashion-mnist: whole study against Optuna's search alone", search / seconds, bar=2),
        Row("fashion-mnist: study against Optuna with confirmation", (search + confirming) / seconds),
        Row("fashion-mnist: test nll of the winner, float32", found.test["recommended"]["nll"]["mean"], ""),
        Row("fashion-mnist: test nll of the winner, bfloat16", found_bf16.test["recommended"]["nll"]["mean"], ""),
        Row("fashion-mnist: test nll without regularisation", found.test["none"]["nll"]["mean"], ""),
        Row("fashion-mnist: test nll of the ensemble", found.test["ensemble"]["nll"]["mean"], ""),
    ]


def digits(turns: int) -> list[Row]:
    """Measure the small study, and Optuna's whole."""
    data = dampen.load("digits")
    folds = replace(data, test_rows=data.test_rows[:0]).folds(5, 1, seed=0)[:SEEDS]
    ours, theirs = [], []
    found, rival = None, Pruned(folds, SMALL.hidden, EPOCHS_OF_DIGITS, 32)
    for _ in range(turns):
        seconds, found = whole_study(SMALL, data, epochs=EPOCHS_OF_DIGITS)
        ours.append(seconds)
        rival = Pruned(folds, SMALL.hidden, EPOCHS_OF_DIGITS, 32)
        theirs.append(rival.run(SETTINGS))
    assert found is not None
    seconds, search = statistics.median(ours), statistics.median(theirs)
    confirming = after_search(found) * statistics.median(rival.seconds_of_epochs)
    return [
        Row("digits: the whole study", seconds, "s"),
        Row("digits: epochs of members that it trained", found.member_epochs, ""),
        Row("digits: Optuna's search", search, "s"),
        Row("digits: epochs of members that Optuna's search trained", rival.member_epochs, ""),
        Row("digits: Optuna's search, then confirmation and last training", search + confirming, "s"),
        Row("digits: whole study against Optuna's search alone", search / seconds, bar=8),
        Row("digits: study against Optuna with confirmation", (search + confirming) / seconds),
    ]


def winner(name: str, network: Model, data: Data, epochs: int) -> list[Row]:
    """Compare the winner of halving with that of a search that trains everything, on the test rows, by fresh seeds."""
    options: dict[str, Any] = {"settings": SETTINGS, "seeds": SEEDS, "epochs": epochs}
    halved, every = (
        dampen.tune(network, data, SPACE, search=dampen.Sobol(halving=halving), **options) for halving in (True, False)
    )
    ours, theirs = halved.recommended, every.recommended

    def costs(training: Training) -> np.ndarray:
        population = dampen.Population(network, [training.setting], FRESH_SEEDS)
        how = {"epochs": training.epochs, "schedule": "cosine", "evaluate_every": None} | batch(data)
        population.fit(replace(data, test_rows=data.test_rows[:0]), **how)
        outputs = torch.stack(population.outputs(data.test))[:, 0].double()
        return -outputs.log_softmax(-1)[..., torch.arange(len(data.test.targets)), data.test.targets].numpy()

    a, b = costs(ours), costs(theirs)
    if ours == theirs:
        difference, low, high = 0.0, 0.0, 0.0
    else:
        estimate = over_seeds_and_rows(a - b)
        difference, (low, high) = estimate.mean, estimate.interval()
    return [
        Row(f"{name}: epochs of members, halving", halved.member_epochs, ""),
        Row(f"{name}: epochs of members, exhaustive", every.member_epochs, ""),
        Row(f"{name}: test nll of halving's winner", float(a.mean()), ""),
        Row(f"{name}: test nll of the exhaustive search's winner", float(b.mean()), ""),
        Row(f"{name}: difference", difference, ""),
        Row(f"{name}: difference, upper end of its 95 % interval", high, ""),
        Row(f"{name}: difference, lower end; at most 0 is within noise", low, "", bar=0, most=True),
    ]


def batch(data: Data) -> dict[str, int]:
    """Return the batch size that `tune` takes for so many rows."""
    return {"batch_size": usual_batch_size(len(data.train_rows))}


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of the study on digits")
    parts = ("digits", "fashion-mnist", "winners")
    parser.add_argument("--only", choices=parts, help="one of the parts")
    options = parser.parse_args()
    wanted = parts if options.only is None else (options.only,)
    data = dampen.load("fashion-mnist") if os.environ.get("DAMPEN_DATA") else None
    found: list[Row] = []
    if "digits" in wanted:
        found += digits(options.turns)
    if "fashion-mnist" in wanted and data is not None:
        found += fashion_mnist(data)
    if "winners" in wanted:
        found += winner("digits", SMALL, dampen.load("digits"), EPOCHS_OF_DIGITS)
        if data is not None:
            drawn = torch.randperm(len(data.train_rows), generator=torch.Generator().manual_seed(0))[:6_000]
            found += winner(
                "fashion-mnist, 6000 rows", NETWORK, replace(data, train_rows=data.train_rows[drawn]), EPOCHS
            )
    left_out = [] if data is not None else ["Fashion-MNIST: DAMPEN_DATA does not name its folder"]
    rows.show(found, {"settings": SETTINGS, "seeds": SEEDS, "left_out": left_out}, options.json)


if __name__ == "__main__":
    main()
