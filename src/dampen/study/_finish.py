"""How a study ends: the best confirmed and judged, the test rows opened, all of it written to the folder."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dampen.data import Rows
from dampen.knobs import Setting
from dampen.population import Population
from dampen.statistics import over_rows, over_seeds_and_rows
from dampen.store import Folder, fingerprint
from dampen.study import _metrics, _plan, _unseen
from dampen.study._run import Ranked, Runner, outputs_of
from dampen.study._study import Study
from dampen.study._verdict import LEVEL, judge


def finish(runner: Runner, best: list[Setting], references: Mapping[str, Setting], ranked: tuple[Ranked, ...]) -> Study:
    """Confirm, judge, and open the test set."""
    plan, folder = runner.plan, runner.folder
    held = folder.read_json("study.json") if folder is not None else None  # of a study that is finished
    population, rows = runner.confirm(list(dict.fromkeys([*best, *references.values()])))
    verdict = judge(plan, population, rows, references)
    # without test rows nobody asks how the references do on them
    wanted = [verdict.recommended, *(references.values() if len(plan.data.test_rows) else ())]
    last = runner.last(list(dict.fromkeys(wanted)))
    study = Study(
        plan,
        ranked,
        references,
        verdict,
        _test(plan, last, {"recommended": verdict.recommended, **references}),
        held["seconds"] if held else runner.seconds,
        runner.frame(),
        len(population.settings),
        last,
        None if folder is None else folder.path,
    )
    if folder is not None and not held:
        _write(folder, study, rows)
    elif folder is not None and not (folder.path / _unseen.FILE).is_file():  # of an older version
        _write_unseen(folder, plan, rows)
    return study


def _test(plan: _plan.Plan, population: Population, settings: Mapping[str, Setting]) -> dict[str, dict[str, Any]]:
    """Return metrics on the test rows, with intervals over seeds and rows; the ensemble's is over rows alone."""
    rows = _plan.training_and_validation_rows(plan.data).test  # scaled as the rows of the last training are
    if not len(rows):
        return {}
    places = {name: population.settings.index(setting) for name, setting in settings.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in (*places, "ensemble")}
    sampled = [plan.metric] if plan.metric.samples else []
    for metrics in (sampled, _metrics.of(plan.data.task, plan.data.weights is not None)):
        if not metrics:
            continue
        outputs = torch.stack(outputs_of(population, rows, metrics[0]))  # [S, M, N, C]
        for name, m in places.items():
            found[name] |= _told(plan, metrics, outputs[:, m], rows)
        mean = _metrics.mean_probabilities(outputs[:, places["recommended"]], plan.data.task)
        found["ensemble"] |= _told(plan, metrics, mean[None], rows)
    return found


def _told(plan: _plan.Plan, metrics: Sequence[_metrics.Metric], outputs: Tensor, rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in metrics:
        costs = metric.costs(outputs, rows).double().numpy()
        if not np.isfinite(costs).all():
            found[metric.name] = {"mean": None, "interval": None}
            continue
        estimate = over_seeds_and_rows(costs) if len(costs) > 1 else over_rows(costs[0])
        ends = list(metric.told_interval(estimate.interval(LEVEL), plan.target_scale[1]))
        found[metric.name] = {"mean": metric.told(estimate.mean, plan.target_scale[1]), "interval": ends}
    return found


def _write(folder: Folder, study: Study, confirmed: _plan.Split) -> None:
    from safetensors.torch import save_file

    document = study.document()
    about = {
        "model": study.plan.model,
        "setting": json.dumps(document["recommended"]),
        "inputs": json.dumps(list(study.plan.data.inputs)),
        "outputs": str(study.plan.data.outputs),
        "target_scale": json.dumps(list(study.plan.target_scale)),
    }
    tensors = {name: t.contiguous().clone() for name, t in study.model().state_dict().items()}
    folder.write("model.safetensors", lambda file: save_file(tensors, file, about))
    preprocessing = study.preprocessing()
    if preprocessing is not None:
        folder.write_json("preprocessing.json", preprocessing.document())
    _write_unseen(folder, study.plan, confirmed)
    folder.write_frame("curves.parquet", study.frame())
    folder.write_json("study.json", document)


def _write_unseen(folder: Folder, plan: _plan.Plan, confirmed: _plan.Split) -> None:
    data = _plan.training_and_validation_rows(plan.data)
    _unseen.write(folder, data, confirmed.sets, fingerprint(plan.data))
