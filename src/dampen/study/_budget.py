"""A study that fits a time: how many settings, seeds and epochs, from a measured training."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from dampen.data import Data, with_unit_targets
from dampen.engine import Model, Population, TrainConfig, with_heads, worth_compiling
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import CROSSINGS, Space
from dampen.study._config import config_of_study, rows_a_step
from dampen.study._defaults import Lengths, n_confirmed, usual_batch_size
from dampen.study._simple_models import SIMPLE

_MEMBERS = 16  # of the measured training: as many as a chunk of middle size holds
_ROWS = 8192  # that it trains on at most
_SEARCH = 0.5  # share of the time for the search; the rest decides how many seeds confirm
_SPARE, _LEAST_SPARE = 0.03, 2.0  # share, and seconds at least, for the verdict, writing and the report
_LEAST, _MOST = 8, 4096  # settings
_FURTHER = 4  # times as long as foreseen trainings may last if there is time
_STEP = 0.9  # of a training's length to the next one that is tried
CONFIRM_SEEDS = 3, 200


@dataclass(frozen=True)
class Wanted:
    """Sizes of a study as they were asked for.

    Args:
        settings: None lets the budget choose.
        seeds: likewise.
        lengths: of trainings without a budget.
        fixed: whether the longest was asked for.
        confirmed: how many of the best train again.
        least: settings that a search has, unless fewer were asked for.
        tried_seeds: numbers of seeds, the most welcome first.
        confirm_seeds: of the verdict at least.
        regularisers: how many the best is likely to have on: each is left out to see what it is worth.
        families: of references that train beside them.
        calibrating: folds that ensembles of numbers are calibrated on, each a training for every seed.
        tempered: trainings without regularisation that are best where each network has a temperature: 1 or none.
        doublings: how often trainings may last twice as long as planned, while they gain by it.
    """

    settings: int | None
    seeds: int | None
    lengths: Lengths
    fixed: bool
    confirmed: int
    least: int = _LEAST
    tried_seeds: Sequence[int] = (3, 2, 1)
    confirm_seeds: int = CONFIRM_SEEDS[0]
    regularisers: int = 2
    families: int = 3
    calibrating: int = 0
    tempered: int = 0
    doublings: int = 0


def seconds_per_member_epoch(
    model: Model, data: Data, training: TrainConfig, space: Space | None = None, epochs: int = 1
) -> float:
    """Measure what an epoch of a member takes, on the training rows or a part of them.

    Args:
        model: the network.
        data: what it trains on.
        training: how.
        space: what settings are drawn from, as each knob takes time of its own; None for one without other knobs.
        epochs: of the study's trainings: they are compiled where that makes up for the compiler's time.
    """
    steps = math.ceil(len(data.train_rows) / rows_a_step(training))
    if training.compile == "auto":
        training = replace(training, compile=worth_compiling(epochs * steps))
    rows = data.train_rows[: min(_ROWS, len(data.train_rows))]
    part = replace(data, train_rows=rows, validation_rows=rows[:0], test_rows=rows[:0], given_folds=None)
    decays = [Setting(weight_decay=k / _MEMBERS) for k in range(_MEMBERS)]
    settings = decays if space is None else space.draw(_MEMBERS, "sobol", 0)
    seeds = range(_MEMBERS // len(settings))
    population = Population(model, settings, seeds)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "steps can't be (compiled|one graph)")  # nobody asked for it
        population.fit(part, training, epochs=3, until=1)  # records the program, and warms up
    started = time.perf_counter()
    population.fit(part, training, epochs=3)
    if str(training.device) != "cpu":
        torch.cuda.synchronize()
    measured = (time.perf_counter() - started) / (2 * len(settings) * len(seeds))
    return measured * len(data.train_rows) / len(rows)


def full_trainings(confirmed: int, regularisers: int) -> int:
    """Return how many settings train for the full length in the confirmation and for the test rows, roughly.

    Where a gain comes from is shown by trainings without each regulariser, without all, and the usual one.
    """
    return confirmed + 2 + forms(regularisers)


def forms(regularisers: int) -> int:
    """Return how many trainings leave regularisers out: each, and beside one that does nothing each that is left."""
    return max(0, 2 * regularisers - 1)


def member_epochs_beyond(lengths: Lengths, around: int, rounds: int, going: int = 2) -> int:
    """Return what a search trains after its brackets, for each seed: rounds, crossings, longer ones.

    Args:
        lengths: of its trainings.
        around: settings of a round around the best one.
        rounds: how many.
        going: settings that train longer.
    """
    crossed = CROSSINGS if rounds > 1 and around else 0
    if lengths.longest == lengths.planned:
        return (rounds * around + crossed) * lengths.planned
    doubled = [lengths.planned * 2**k for k in range(int(math.log2(lengths.longest / lengths.planned)) + 1)]
    crossed *= doubled[min(rounds, len(doubled)) - 1]
    return around * sum(doubled[: rounds - 1]) + crossed + going * sum(doubled[1:])


def foreseen(lengths: Lengths) -> Lengths:
    """Return a budget's lengths as far as they were planned for, without those that are tried if there is time."""
    return replace(lengths, longest=max(lengths.planned, lengths.longest // _FURTHER))


def fit_search(
    budget: float,
    rate: float,
    wanted: Wanted,
    member_epochs: Callable[[int, int, Lengths], float],
    given: float | None = None,
) -> tuple[int, int, Lengths]:
    """Return settings, seeds and lengths whose search takes its share of a budget.

    Args:
        budget: seconds.
        rate: seconds of a member's epoch.
        wanted: sizes as given.
        member_epochs: of a search with so many settings and seeds, and such lengths.
        given: the seconds that there were before any of them were spent.

    Raises:
        InputError: the least search does not fit.
    """
    goal = _SEARCH * budget / rate
    rest = ((1 - _SEARCH) * budget - spare(budget)) / rate

    def confirming(lengths: Lengths) -> float:
        """Return the epochs of a seed's trainings; references gain nothing by the longest."""
        full = full_trainings(wanted.confirmed, wanted.regularisers) + wanted.calibrating + wanted.tempered
        return full * lengths.longest + 2 * wanted.families * lengths.planned

    def fits(n: int, seeds: int, lengths: Lengths) -> bool:
        searching, confirmed = member_epochs(n, seeds, lengths), wanted.confirm_seeds * confirming(lengths)
        if lengths.longest > lengths.planned and n == counts[0]:  # how the time is shared is decided as it goes
            return searching + confirmed <= goal + rest
        return searching <= goal and confirmed <= rest

    ladder = [wanted.lengths] if wanted.fixed else _shorter(wanted.lengths, wanted.doublings)
    tried = [wanted.seeds] if wanted.seeds else wanted.tried_seeds
    counts = range(wanted.settings or wanted.least, (wanted.settings or _MOST) + 1)
    for seeds, lengths in [(s, lengths) for lengths in ladder for s in tried]:
        if not fits(counts[0], seeds, lengths):
            continue
        low, high = 0, len(counts) - 1
        if wanted.doublings and lengths is not ladder[0]:  # time goes into length, and to around the best
            high = 0
        while low < high:  # the most settings that fit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(counts[middle], seeds, lengths) else (low, middle - 1)
        further = _FURTHER if wanted.doublings and not wanted.fixed else 1
        return counts[low], seeds, replace(lengths, longest=further * lengths.longest)
    shortest = ladder[-1]
    searching = member_epochs(wanted.settings or wanted.least, wanted.seeds or 1, shortest) * rate / _SEARCH
    least = max(searching, _least_rest(wanted.confirm_seeds * confirming(shortest) * rate))
    spent = 0.0 if given is None else given - budget
    raise InputError(
        f"a budget of {spent + budget:.3g} s is too short: the smallest study takes {math.ceil(spent + least)} s"
    )


def _least_rest(confirming: float) -> float:
    """Return the seconds of a study whose confirmation takes so many."""
    return max((confirming + _LEAST_SPARE) / (1 - _SEARCH), confirming / (1 - _SEARCH - _SPARE))


def check_budget(
    budget: float,
    model: Model,
    part: Data,
    times: float,
    confirmed: int | None,
    batch_size: int | None,
    cocktail: bool = False,
    loss: str | None = None,
) -> None:
    """Refuse a budget that a study of many rows can't keep, measured on the first of them; in doubt, let it pass.

    Args:
        budget: seconds.
        model: the network.
        part: the first rows.
        times: how many times as many there are.
        confirmed: settings that train again, None for as many as usual.
        batch_size: rows a step, None for the usual.
        cocktail: whether the study is one.
        loss: by which members train, by name; None for the usual one.

    Raises:
        InputError: an epoch of each training of the smallest confirmation takes more than twice the budget.
    """
    n = times * len(part.train_rows)
    data, *_ = with_unit_targets(part)
    model = with_heads(model, loss)
    training = config_of_study(TrainConfig(batch_size=batch_size or usual_batch_size(round(n)), loss=loss), data)
    full = full_trainings(n_confirmed(confirmed, cocktail, budgeted=True), Wanted.regularisers) + 2 * Wanted.families
    least = _least_rest(CONFIRM_SEEDS[0] * full * times * seconds_per_member_epoch(model, data, training))
    if least > 2 * budget:
        raise InputError(
            f"a budget of {budget:.0f} s is too short: by its first {len(part.features)} rows the smallest study on "
            f"about {n:.3g} training rows takes at least {math.ceil(least)} s; give more time or fewer rows"
        )


def _shorter(lengths: Lengths, doublings: int) -> list[Lengths]:
    """Return lengths that are planned to be ever shorter, by a tenth at a time, and may be doubled so often."""
    planned = [lengths.planned]
    while planned[-1] > 1:
        planned.append(math.floor(_STEP * planned[-1]))
    steps = [(n, doublings) for n in planned] + [(1, times) for times in range(doublings - 1, -1, -1)]
    return [Lengths(min(lengths.first, n), min(lengths.usual, n), n, n * 2**times) for n, times in steps]


def seconds_of_simple_models(names: Sequence[str], data: Data) -> float:
    """Measure what fitting these simple models on the training rows takes."""
    import sklearn.ensemble  # takes a second itself
    import sklearn.linear_model  # noqa: F401

    rows, started = data.without_codes().train, time.perf_counter()
    for name in names:
        SIMPLE[name](rows, data.task, data.outputs, 0)(rows)
    return time.perf_counter() - started


def spare(budget: float) -> float:
    """Return the seconds of a budget that are kept for the verdict, writing and the report."""
    return max(_SPARE * budget, _LEAST_SPARE)
