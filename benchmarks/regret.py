"""True regret of ways to search against the epochs that they spend, simulated on recorded grids of trainings.

`benchmarks.curves` trains every setting of a grid for every length with every seed, once. A rule then sees only what it
pays for: a training of a length costs its epochs, for each seed. It recommends a setting and a length; the regret is by
how much the true loss of that is larger than that of the best training of the whole grid, in percent. The true loss is
that on rows which no search sees. Each repetition draws settings and seeds anew from the grid; a budget is a share of
what the longest training of all settings takes with the default number of seeds. In brackets is the difference to the
first rule in the same repetitions, with its standard error. Rules were chosen on half of the data sets and are reported
on the other half. The same curves give the same table.

Run as `python -m benchmarks.regret`, with DAMPEN_DATA naming Fashion-MNIST's folder; curves are kept in the folder
DAMPEN_CURVES and recorded where they are missing. `--settings 8 --seeds 5 --rows 100` is a small run. `--equal` finds
instead how many epochs Optuna's searches need to have no more regret than a default study's search, and how much time:
an epoch of a member of a population of 16 is measured beside one of a well-written loop, without the compiler's time.
It takes a grid of three seeds, too: `--equal --sets fashion-mnist-60000 --settings 16 --seeds 3` trains for an hour.
"""

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch

import dampen
from benchmarks import curves, rivals, rows
from benchmarks.curves import KEPT_OUT, Table
from benchmarks.rows import Row
from benchmarks.search_rules import AS_IT_IS, CONFIRMED, RULES, SEEDS, STUDIES, Rule, Search
from dampen import TrainConfig
from dampen.search import Space
from dampen.study import usual_batch_size, usual_space

BUDGETS = 0.05, 0.1, 0.25, 0.5, 1.0
EQUAL_BUDGETS = 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0
BY_SET = 0.25  # the budget at which data sets are told apart
REPETITIONS = 30
MEMBERS = 16  # of the population whose speed counts
# How many times as long Optuna should take at equal regret, at least.
BARS = {"digits": 8.0, "fashion-mnist-6000": 4.0, "fashion-mnist-60000": 4.0}
SHARE = 0.75  # of the grid's settings that a repetition draws


@cache
def regrets(table: Table, rule: Rule, budget: float, repetitions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the regret of each repetition, as a share of the least loss, and the share of the full epochs it spent."""
    S, M = table.curves[0].shape[1:]
    least = table.truth.min()
    found, spent = [], []
    for r in range(repetitions):
        rng = np.random.default_rng(r)
        settings = rng.permutation(M)[: max(1, round(SHARE * M))]
        full = len(settings) * min(SEEDS, S) * float(table.epochs[-1])
        search = Search(table, settings, rng.permutation(S), budget * full)
        m, at = rule(search)
        found.append(min(table.truth[at, m] / least - 1, 10.0))
        spent.append(search.spent / full)
    return np.array(found), np.array(spent)


def compared(tables: Sequence[Table], rule: Rule, budget: float, repetitions: int, base: Rule) -> tuple[float, ...]:
    """Return mean regret, its difference to another rule's, the standard error of that, and the share spent."""
    each = [regrets(table, rule, budget, repetitions) for table in tables]
    differences = [found - regrets(t, base, budget, repetitions)[0] for (found, _), t in zip(each, tables, strict=True)]
    error = math.sqrt(sum(d.var() / max(1, repetitions - 1) for d in differences)) / len(tables)
    mean_of = [float(np.mean(values)) for values in ([r for r, _ in each], differences, [s for _, s in each])]
    return 100 * mean_of[0], 100 * mean_of[1], 100 * error, 100 * mean_of[2]


def times_as_fast(name: str, given: int | None, turns: int = 5) -> Row:
    """Measure an epoch of a well-written loop beside one of a population's member, in turns.

    Args:
        name: of the data set.
        given: training rows, where fewer than usual.
        turns: whose median ratio counts.
    """
    data = curves.split(name, given)
    data = replace(data, test_rows=data.test_rows[:0])
    network, size = curves.network(name), usual_batch_size(len(data.train_rows))
    settings = Space(usual_space(data, dropping=1)).draw(MEMBERS, "sobol", 0)
    population = dampen.Population(network, settings, [0])
    config = TrainConfig(epochs=2 * turns + 2, batch_size=size, compile=True)
    population.fit(data, config, until=1, evaluate_every=None)
    alone = network(data.train.features[0].numel(), data.outputs)
    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-3, fused=True)
    inputs, targets = data.train.features.flatten(1), data.train.targets
    loss = torch.nn.functional.cross_entropy
    if data.task == "regression":
        targets, loss = targets[:, None], torch.nn.functional.mse_loss
    epoch = rivals.plain(alone, inputs, targets, size, optimizer, loss)
    epoch()
    ratios = []
    for turn in range(turns):
        started = time.perf_counter()
        population.fit(data, config, until=2 * turn + 3, evaluate_every=None)
        between = time.perf_counter()
        for _ in range(2):
            epoch()
        ratios.append((time.perf_counter() - between) * MEMBERS / (between - started))
    return Row(f"{name}: an epoch of a well-written loop / of a member of {MEMBERS}", statistics.median(ratios))


def equal(name: str, table: Table, repetitions: int, faster: float) -> list[Row]:
    """Return what a default study's search costs, and what Optuna's costs where its regret is no larger.

    Both are shares of the epochs of everything; a rival that never gets there has no row of its own ratio.

    Args:
        name: of the data set.
        table: its curves.
        repetitions: of each search.
        faster: how many times as long an epoch of a well-written loop takes as one of a population's member.
    """
    ours, spent = regrets(table, STUDIES[AS_IT_IS], math.inf, repetitions)
    found = [
        Row(f"{name}: regret of a default study's search", 100 * float(ours.mean()), "%"),
        Row(f"{name}: epochs of a default study's search", 100 * float(spent.mean()), "%"),
    ]
    for rule in (rule for rule in RULES if rule.startswith("Optuna")):
        least = math.inf
        for budget in EQUAL_BUDGETS:
            theirs, share = regrets(table, RULES[rule], budget, repetitions)
            least = min(least, float(theirs.mean()))
            if theirs.mean() <= ours.mean():
                found.append(Row(f"{name}: {rule}: epochs until it has no more", 100 * float(share.mean()), "%"))
                times = float(share.mean() / spent.mean())
                found.append(Row(f"{name}: {rule}: times a study's epochs", times))
                found.append(Row(f"{name}: {rule}: times a study's time", times * faster, bar=BARS.get(name)))
                break
        else:
            found.append(Row(f"{name}: {rule}: least regret with all epochs, never as little", 100 * least, "%"))
    return found


def main() -> None:
    """Record what is missing, simulate, print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--settings", type=int, default=48, help="of each grid")
    parser.add_argument("--seeds", type=int, default=8, help="of each setting")
    parser.add_argument("--rows", type=int, default=None, help="training rows, where fewer than usual")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--sets", nargs="+", default=list(KEPT_OUT), choices=list(curves.SETS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--equal", action="store_true", help="only what Optuna needs for a default study's regret")
    options = parser.parse_args()
    least = CONFIRMED if options.equal else SEEDS
    if options.seeds < least:
        parser.error(f"--seeds must be {least} or more, got {options.seeds}")
    tables = {}
    for name in options.sets:
        if name.startswith("fashion-mnist") and not os.environ.get("DAMPEN_DATA"):
            continue
        file = curves.folder() / f"{name}-{options.settings}-{options.seeds}-{options.rows or 'all'}.npz"
        if not curves.is_recorded(file):
            curves.record(name, file, options.settings, options.seeds, options.rows)
        tables[name] = Table.load(file)
    if options.equal:
        found = []
        for name, table in tables.items():
            faster = times_as_fast(name, options.rows)
            found += [faster, *equal(name, table, options.repetitions, faster.value)]
        rows.show(found, {"sets": list(tables), "repetitions": options.repetitions}, options.json)
        return
    found: list[Row] = []
    lines = [f"| regret in % ({', '.join(tables)}) | " + " | ".join(f"{100 * b:g} %" for b in BUDGETS) + " |"]
    lines.append("| --- " * (len(BUDGETS) + 1) + "|")
    every = list(tables.values())
    for rule in options.rules:
        cells = []
        for budget in BUDGETS:
            regret, more, error, _ = compared(every, RULES[rule], budget, options.repetitions, RULES[AS_IT_IS])
            found.append(Row(f"{rule}, budget {100 * budget:g} %", regret, "%"))
            cells.append(f"{regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    lines += ["", f"| regret in %, budget {100 * BY_SET:g} % | " + " | ".join(tables) + " |"]
    lines.append("| --- " * (len(tables) + 1) + "|")
    for rule in options.rules:
        cells = []
        for name, table in tables.items():
            regret, more, error, _ = compared([table], RULES[rule], BY_SET, options.repetitions, RULES[AS_IT_IS])
            found.append(Row(f"{rule}, {name}", regret, "%"))
            cells.append(f"{regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    lines += ["", "| a default study | regret in % | epochs of members, in % |", "| --- | --- | --- |"]
    for rule, whole in STUDIES.items():
        regret, more, error, spent = compared(every, whole, math.inf, options.repetitions, STUDIES[AS_IT_IS])
        found += [Row(f"{rule}, a whole study", regret, "%"), Row(f"{rule}, epochs of a whole study", spent, "%")]
        lines.append(f"| {rule} | {regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines[-1] += f" | {spent:.0f} |"
    if options.json:
        rows.show(found, {"sets": list(tables), "repetitions": options.repetitions}, True)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
