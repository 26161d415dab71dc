"""The population: every setting with every seed, trained as one."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.data import Data
from dampen.data import Rows as DataRows
from dampen.errors import InputError
from dampen.knobs import Setting, weight_decay
from dampen.population import _losses, _noise
from dampen.population._block import Block, Recipe, Rows
from dampen.population._history import Epoch, History

_CACHE_BYTES = 8 << 20  # parameters trained at a time: beyond the last-level cache a step slows down


class Population:
    """Members that share one architecture and train in lockstep: every setting with every seed.

    Member (m, s) follows the trajectory that it has alone (see `solo`): the same initial weights, batches and
    dropout masks, whatever else is in the population. Members with the same seed share all three.

    Args:
        model: makes the network, without arguments.
        settings: the M settings, distinct.
        seeds: the S seeds, distinct whole numbers, 0 or larger.
        dtype: of parameters and features.
        device: where the members live and train.

    Raises:
        InputError: no setting, no seed, or one of them twice.

    Example:
        >>> from torch import nn
        >>> population = Population(lambda: nn.Linear(3, 1), [Setting(weight_decay=d) for d in (0, 3)], seeds=range(5))
        >>> population
        Population(10 members: 2 settings x 5 seeds, 4 parameters each)
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        settings: Sequence[Setting],
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ):
        self.settings, self.seeds = _distinct("setting", settings), _distinct("seed", seeds)
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
                raise InputError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
        self.dtype, self.device = dtype, torch.device(device)
        self._model = model
        networks = [_noise.initial_network(model, seed).to(self.device, dtype) for seed in self.seeds]
        self._blocks = self._cut(networks)
        self.n_parameters = sum(p.numel() for p in networks[0].parameters())

    def __repr__(self) -> str:
        S, M = len(self.seeds), len(self.settings)
        return f"Population({S * M} members: {M} settings x {S} seeds, {self.n_parameters} parameters each)"

    def fit(
        self,
        data: Data | Sequence[Data],
        *,
        epochs: int,
        batch_size: int,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        loss: str | _losses.RowLoss | None = None,
        decayed: Callable[[str, Tensor], bool] = weight_decay.is_decayed,
        evaluate_every: int | None = 1,
        callback: Callable[[Epoch], None] | None = None,
    ) -> History:
        """Train every member from its initial weights.

        Args:
            data: one data set for all seeds, or one for each seed with equally many rows.
            epochs: passes over the training rows.
            batch_size: rows a step; the last batch of an epoch may be smaller.
            optimizer: `sgd`, `adam` (both with coupled decay, as in torch) or `adamw` (decoupled).
            lr: learning rate of the members whose setting has none.
            loss: `cross_entropy`, `squared_error`, `half_squared_error`, or a function from outputs `[N, C]` and
                targets `[N]` to the loss of each row; by default what the data's task asks for.
            decayed: says whether a parameter, by name and value, decays; by default matrices and kernels do.
            evaluate_every: measure the validation and test rows, and record, after every so many epochs and after
                the last; None: after the last only.
            callback: called with an `Epoch` for each one recorded.

        Raises:
            InputError: an argument outside its range, or data of unequal sizes.
        """
        for name, value in (
            ("epochs", epochs),
            ("batch_size", batch_size),
            ("evaluate_every", evaluate_every or 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number, 1 or larger, got {value!r}")
        if not (0 < lr < math.inf):
            raise InputError(f"lr must be a finite number larger than 0, got {lr!r}")
        sets = self._data_sets(data)
        task = sets[0].task
        recipe = Recipe(_losses.find(loss, task), task == "classification", batch_size, optimizer, float(lr), decayed)
        rows = {
            split: self._rows([getattr(d, split) for d in sets], split) for split in ("train", "validation", "test")
        }
        for block in self._blocks:
            block.prepare(recipe)
        steps = math.ceil(len(rows["train"]) / batch_size)
        recorder = _Recorder(self.settings, self.seeds)
        for epoch in range(1, epochs + 1):
            recorded = epoch == epochs or (evaluate_every is not None and epoch % evaluate_every == 0)
            for block in self._blocks:
                place = self._place[block]
                found = block.train_epoch(rows["train"].of_seeds(place[0]), epoch, (epoch - 1) * steps)
                finite = np.isfinite(found["loss"]) if epoch < epochs else np.isfinite(found["loss"]) & block.finite()
                recorder.diverged(place, epoch, block.freeze(~finite))
                if recorded:
                    recorder.put(place, "train", found)
                    for split in ("validation", "test"):
                        if len(rows[split]):
                            recorder.put(place, split, block.evaluate(rows[split].of_seeds(place[0])))
            if recorded:
                metrics = recorder.close(epoch)
                if callback:
                    callback(Epoch(epoch, epochs, metrics))
        return recorder.history()

    def evaluate(self, rows: DataRows | Sequence[DataRows]) -> dict[str, Float[np.ndarray, "S M"]]:
        """Return every member's `loss` and, for classes, `acc` over rows, in evaluation mode; `fit` must have run.

        Args:
            rows: one set of rows for all seeds, or one for each seed.
        """
        on_device = self._rows([rows] * len(self.seeds) if isinstance(rows, DataRows) else list(rows), "given")
        recorder = _Recorder(self.settings, self.seeds)
        for block in self._blocks:
            place = self._place[block]
            recorder.put(place, "", block.evaluate(on_device.of_seeds(place[0])))
        return {name.removeprefix("_"): values for name, values in recorder.close(0).items()}

    def member(self, setting: Setting, seed: int) -> nn.Module:
        """Return one member as an ordinary network of the user's own class, in evaluation mode, on the CPU.

        Raises:
            InputError: the population has no such member.
        """
        if setting not in self.settings or seed not in self.seeds:
            raise InputError(f"there is no member with {setting} and seed {seed}")
        s, m = self.seeds.index(seed), self.settings.index(setting)
        network = _noise.initial_network(self._model, seed).to(self.dtype)
        network.load_state_dict({name: t[s, m].cpu() for name, t in self.state().items()}, strict=False)
        return network.eval()

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all parameters and buffers, by the network's own names, each `[S, M, ...]`."""
        S, M = len(self.seeds), len(self.settings)
        whole: dict[str, Tensor] = {}
        for block in self._blocks:
            for name, t in (block.parameters | block.buffers).items():
                if name not in whole:
                    whole[name] = t.new_empty(S, M, *t.shape[2:], requires_grad=False)
                whole[name][self._place[block]] = t.detach()
        return whole

    def _cut(self, networks: list[nn.Module]) -> list[Block]:
        """Stack the members into blocks, each no larger than the cache, as few as can be."""
        S, M = len(self.seeds), len(self.settings)
        n_bytes = sum(t.numel() * t.element_size() for t in networks[0].parameters())
        fit = max(1, _CACHE_BYTES // max(1, n_bytes))
        per_row = math.ceil(M / math.ceil(M / min(M, fit)))  # settings in a block, evenly
        per_column = min(S, max(1, fit // M))  # seeds in a block
        self._place: dict[Block, tuple[slice, slice]] = {}
        for first in range(0, S, per_column):
            for m in range(0, M, per_row):
                place = (slice(first, min(S, first + per_column)), slice(m, min(M, m + per_row)))
                seeds, settings = self.seeds[place[0]], self.settings[place[1]]

                def stack(tensors: list[dict[str, Tensor]], M: int = len(settings)) -> dict[str, Tensor]:
                    return {
                        name: torch.stack([t[name].detach() for t in tensors]).unsqueeze(1).repeat_interleave(M, 1)
                        for name in tensors[0]
                    }

                parameters = stack([dict(n.named_parameters()) for n in networks[place[0]]])
                buffers = stack([dict(n.named_buffers()) for n in networks[place[0]]])
                self._place[Block(networks[0], seeds, settings, parameters, buffers)] = place
        return list(self._place)

    def _data_sets(self, data: Data | Sequence[Data]) -> list[Data]:
        sets = [data] * len(self.seeds) if isinstance(data, Data) else list(data)
        if len(sets) != len(self.seeds):
            raise InputError(f"{len(sets)} data sets for {len(self.seeds)} seeds: give one for all, or one for each")
        return sets

    def _rows(self, sets: list[DataRows], what: str) -> Rows:
        """Bring rows to the device: once where all seeds share them, stacked by seed where they do not."""
        if all(rows is sets[0] for rows in sets):
            sets = sets[:1]
        if len({(rows.features.shape, rows.targets.dtype) for rows in sets}) > 1:
            raise InputError(f"the seeds' {what} rows differ in number, shape or task: members train in lockstep")
        features = torch.stack([rows.features for rows in sets]).to(self.device, self.dtype)
        targets = torch.stack([rows.targets for rows in sets]).to(self.device)
        return Rows(features, targets.to(self.dtype) if targets.is_floating_point() else targets)


class _Recorder:
    """Collects what the blocks report into whole curves."""

    def __init__(self, settings: Sequence[Setting], seeds: Sequence[int]):
        self._settings, self._seeds = tuple(settings), tuple(seeds)
        self._shape = (len(seeds), len(settings))
        self._open: dict[str, np.ndarray] = {}
        self._closed: list[dict[str, np.ndarray]] = []
        self._epochs: list[int] = []
        self._diverged_at = np.zeros(self._shape, dtype=np.int64)

    def put(self, place: tuple[slice, slice], split: str, metrics: dict[str, np.ndarray]) -> None:
        for name, values in metrics.items():
            whole = self._open.setdefault(f"{split}_{name}", np.full(self._shape, np.nan))
            whole[place] = values

    def diverged(self, place: tuple[slice, slice], epoch: int, new: np.ndarray) -> None:
        self._diverged_at[place][new] = epoch

    def close(self, epoch: int) -> dict[str, np.ndarray]:
        for values in self._open.values():
            values[self._diverged_at > 0] = np.nan
        self._closed.append(self._open)
        self._epochs.append(epoch)
        self._open = {}
        return self._closed[-1]

    def history(self) -> History:
        curves = {name: np.stack([metrics[name] for metrics in self._closed]) for name in self._closed[0]}
        return History(self._settings, self._seeds, np.asarray(self._epochs), curves, self._diverged_at)


def _distinct(what: str, values: Sequence) -> tuple:
    values = tuple(values)
    if not values:
        raise InputError(f"a population needs at least one {what}")
    if len(set(values)) < len(values):
        seen: set = set()
        twice = next(value for value in values if value in seen or seen.add(value))
        raise InputError(f"{what} {twice!r} is given twice")
    return values
