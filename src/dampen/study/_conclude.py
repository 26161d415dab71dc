"""How a study ends: confirmation, verdict, the test rows opened once, all of it written to the folder."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dampen._io import save_tensors
from dampen.data import Data, Rows, training_and_validation_rows
from dampen.engine import Population
from dampen.metrics import Metric, interval_of, mean_probabilities
from dampen.metrics import of as metrics_of
from dampen.search import Ranked, Training
from dampen.statistics import over_members
from dampen.study import _calibration_rows, _documents
from dampen.study._calibration_ensembles import CalibrationEnsembles
from dampen.study._confirmation import LEVEL, Confirmed
from dampen.study._evaluate import Candidate
from dampen.study._fresh import FreshResults
from dampen.study._judge import judge
from dampen.study._protocol import Plan
from dampen.study._runner import Runner, Trained, outputs_of
from dampen.study._simple_models import SIMPLE
from dampen.study._storage import Folder, fingerprint
from dampen.study._study import Study
from dampen.study._verdict import Verdict


def finish(runner: Runner, confirmed: Confirmed, ranked: tuple[Ranked, ...]) -> Study:
    """Form the verdict, open the test set, and write everything."""
    plan, folder = runner.plan, runner.folder
    held = _documents.finished(folder) if folder is not None else None  # of a study that is finished
    verdict = judge(plan, plan.data, confirmed)
    recommended = confirmed.recommended
    trained = Trained(runner, "test")
    candidates: dict[str, Candidate] = {"recommended": recommended}
    if len(plan.data.test_rows):  # without test rows the references need no last training
        candidates |= confirmed.references
    checkpoints = {"confirmation": confirmed.trained.name(recommended)}
    if runner.trains_last:
        trained.add([candidate for candidate in candidates.values() if isinstance(candidate, Training)])
        checkpoints["test"] = trained.name(recommended)
    study = Study(
        FreshResults(
            plan=plan,
            ranked=ranked,
            verdict=verdict,
            test=_test(runner, trained, candidates, verdict),
            seconds=held["seconds"] if held else runner.seconds,
            member_epochs=held["trained"]["member_epochs"] if held else runner.member_epochs,
            recommended=recommended,
            calibration=CalibrationEnsembles(runner, confirmed),
            curves=runner.frame(),
            trained=trained,
            checkpoints=checkpoints,
            folder=None if folder is None else folder.path,
        )
    )
    if folder is not None and not held:
        _write(folder, study, confirmed)
    elif folder is not None and not (folder.path / _calibration_rows.FILE).is_file():
        _write_unseen(folder, study, confirmed, new=False)
    runner.end()
    return study


def _test(
    runner: Runner, trained: Trained, candidates: Mapping[str, Candidate], verdict: Verdict
) -> dict[str, dict[str, Any]]:
    """Return metrics on the test rows, and the differences of the study's metric to the recommended training.

    Intervals are over seeds and rows; those of the ensemble and of simple models are over rows alone.
    """
    plan = runner.plan
    data = training_and_validation_rows(plan.data)  # scaled as the rows of the last training are
    rows = data.test
    if not len(rows):
        return {}
    results: dict[str, dict[str, Any]] = {name: {} for name in (*candidates, "ensemble")}
    costs: dict[str, np.ndarray] = {}  # [S, N] of the study's metric
    plain = data.without_codes()  # of simple models, which look no codes up
    for name, candidate in candidates.items():
        simple = (
            None
            if isinstance(candidate, Training)
            else SIMPLE[candidate](plain.train, data.task, data.outputs, plan.seed)
        )
        for metrics in _groups(plan):
            if isinstance(candidate, Training):
                outputs = _outputs(trained.population(candidate), candidate, rows, metrics[0])
            else:
                assert simple is not None
                outputs = simple(plain.test)[None]
            results[name] |= _metric_values(plan, metrics, outputs, rows)
            if plan.metric in metrics:
                costs[name] = plan.metric.costs(outputs, rows).double().numpy()
            if name == "recommended":
                mean = mean_probabilities(outputs, plan.data.task)
                results["ensemble"] |= _metric_values(plan, metrics, mean[None], rows)
    for name in candidates:
        if name != "recommended" and candidates[name] != candidates["recommended"]:
            results[name]["against"] = _difference(plan, costs["recommended"], costs[name], verdict, name)
    return results


def _outputs(population: Population, training: Training, rows: Rows, metric: Metric) -> Tensor:
    """Return a training's outputs for each seed, `[S, N, C]`."""
    m = population.settings.index(training.setting)
    return torch.stack([outputs[m] for outputs in outputs_of(population, rows, metric)])


def _groups(plan: Plan) -> list[list[Metric]]:
    """Return metrics that share their outputs: the sampled one, and those of one pass."""
    usual = metrics_of(plan.data.task)
    if plan.metric.on_demand:
        usual = [plan.metric, *usual]
    return [[plan.metric], usual] if plan.metric.samples else [usual]


def _metric_values(plan: Plan, metrics: Sequence[Metric], outputs: Tensor, rows: Rows) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for metric in metrics:
        costs = metric.costs(outputs, rows).double().numpy()
        if not np.isfinite(costs).all():
            values[metric.name] = {"mean": None, "interval": None}
            continue
        estimate, scale = over_members(costs), plan.target_scale[1]
        ends = interval_of(metric, estimate, costs.shape[1], LEVEL, scale)
        known = bool(np.isfinite(ends).all())  # a single row has no interval
        values[metric.name] = {"mean": metric.in_unit(estimate.mean, scale), "interval": list(ends) if known else None}
    return values


def _difference(plan: Plan, one: np.ndarray, other: np.ndarray, verdict: Verdict, name: str) -> dict[str, Any]:
    """Return the recommended training's metric minus another's on the test rows, and whether that agrees."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return {"difference": None, "interval": None, "agrees": None}
    estimate = over_members(one - other)
    difference, low, high = plan.metric.difference_in_unit(
        float(one.mean()), float(other.mean()), estimate.interval(LEVEL), plan.target_scale[1]
    )
    better = None if not (low > 0 or high < 0) else (low > 0) == plan.metric.rising
    in_verdict = verdict.references[name].better
    agrees = None if better is None or in_verdict is None else better == in_verdict
    ends = [end if np.isfinite(end) else None for end in (low, high)]
    return {"difference": difference, "interval": None if None in ends else ends, "agrees": agrees}


def _write(folder: Folder, study: Study, confirmed: Confirmed) -> None:
    document = study.document()
    about = {
        "model": study.plan.model,
        "setting": json.dumps(document["recommended"]),
        "inputs": json.dumps(list(study.plan.data.inputs)),
        "outputs": str(study.plan.data.outputs),
        "target_scale": json.dumps(list(study.plan.target_scale)),
    }
    tensors = {name: t.contiguous().clone() for name, t in study.model().state_dict().items()}
    folder.write("model.safetensors", lambda file: save_tensors(tensors, file, about))
    preprocessing = study.preprocessing
    if preprocessing is not None:
        folder.write_json("preprocessing.json", preprocessing.document())
    _write_unseen(folder, study, confirmed)
    folder.write_frame("curves.parquet", study.frame())
    folder.write_json("study.json", document)


def _write_unseen(folder: Folder, study: Study, confirmed: Confirmed, new: bool = True) -> None:
    """Write rows to calibrate on; for a study that is finished already nothing is trained."""
    assert isinstance(study.results, FreshResults)
    data, ensembles = training_and_validation_rows(study.plan.data), study.results.calibration
    folds: Sequence[Data] = ()
    if ensembles.of_folds and (new or ensembles.kept):
        folds = ensembles.folds
        assert ensembles.population.seeds  # trained, and its checkpoint in the folder
    _calibration_rows.write(folder, data, confirmed.evaluation.rows.sets, fingerprint(study.plan.data), folds)
