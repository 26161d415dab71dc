"""The population: every setting with every seed, trained as one."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dampen._checks import as_path, function, integer
from dampen._io import counted
from dampen.engine import _dataset, _snapshot
from dampen.engine import _rectangle as rectangle
from dampen.engine._batches import batches
from dampen.engine._codes import check_codes, refuse_changed_codes
from dampen.engine._config import Recipe, TrainConfig, TrainOptions, configured
from dampen.engine._explain import Explanation, explain
from dampen.engine._history import Event, History, Recorder, Span
from dampen.engine._model import Builder, Model
from dampen.engine._outputs import warn_of_probabilities
from dampen.engine._seeds_alike import check_function, check_shapes
from dampen.engine._trainer import Trainer
from dampen.engine._warn_once import warn
from dampen.engine.capture import Trace, check_ids, named, rates_at, set_rates, trace
from dampen.engine.execution import _memory
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._fused import Fused
from dampen.engine.execution._in_c import Kept
from dampen.engine.execution._ordinary import tensors_of
from dampen.engine.execution._program import Names, Program
from dampen.engine.execution._select import choose
from dampen.engine.knobs import Setting, turned
from dampen.engine.knobs.weights import weight_decay
from dampen.engine.knobs.weights.corrected_decay import normalised
from dampen.errors import InputError, NotFusedWarning

F = TypeVar("F", bound=Callable[..., Any])


def _with_gradients(method: F) -> F:
    """Let a method train where whoever calls it predicts, without gradients."""
    return torch.inference_mode(False)(torch.enable_grad()(method))


class Population:
    """Members that share one architecture and train in lockstep: every setting with every seed.

    Member (m, s) follows the trajectory that it has alone (see `solo`): the same initial weights, batches and
    dropout masks, whatever else is in the population. Members with the same seed share all three.

    Args:
        model: a function that makes the network, or a network that is drawn again for every seed. A function may take
            `inputs` (numbers in a row), `outputs` (classes or target columns) and `input_shape`.
        settings: the M settings, distinct.
        seeds: the S seeds, distinct whole numbers, 0 or larger.
        chunk: how many members train at a time; by default what suits cache and memory.

    Raises:
        InputError: no setting, no seed, or one of them twice; or a model that can't be made.

    Example:
        >>> from torch import nn
        >>> population = Population(lambda: nn.Linear(3, 1), [Setting(weight_decay=d) for d in (0, 3)], seeds=range(5))
        >>> population
        Population(10 members: 2 settings x 5 seeds)
    """

    def __init__(self, model: Model, settings: Sequence[Setting], seeds: Sequence[int], *, chunk: int | None = None):
        self.settings, self.seeds = rectangle.distinct("setting", settings), rectangle.checked_seeds(seeds)
        if chunk is not None:
            integer("chunk", chunk, of="members")
        self._build = Builder(model)
        self._chunk_size = self._at_once = chunk  # as given; as determined by the network and the data
        self._recorder = Recorder((len(self.seeds), len(self.settings)))
        self._places: list[Span] = []
        self._chunks: list[Chunk] = []
        self._row: tuple[tuple[int, ...], int] | None = None  # what the builder gets: shape of a row, outputs
        self._networks: list[nn.Module] = []
        self._traces: dict[Any, Trace] = {}
        self._program: Program | None = None
        self._before: Kept | None = None  # that another population has compiled
        self._why: tuple[str, str] | None = None
        self._decayed: dict[str, bool] = {}

    def __repr__(self) -> str:
        S, M = len(self.seeds), len(self.settings)
        return f"Population({counted(S * M, 'member')}: {counted(M, 'setting')} x {counted(S, 'seed')})"

    @_with_gradients
    def fit(
        self,
        data: _dataset.Source | Sequence[_dataset.Source],
        config: TrainConfig | None = None,
        *,
        until: int | None = None,
        evaluate_every: int | None = 1,
        callback: Callable[[Event], object] | None = None,
        **options: Unpack[TrainOptions],
    ) -> History:
        """Train every member to the end of its epochs, from where it is.

        Ctrl-C ends the step that runs and raises `KeyboardInterrupt`; all members are whole, `history` and `reached`
        record how far they came, and calling `fit` again goes on from there.

        Args:
            data: `Data`, tensors `(inputs, ..., targets)`, a `torch.utils.data.Dataset` of such tuples (read once), or
                a mapping from `train`, `validation`, `test` to these; or a list with one of them for each seed.
            config: how members train.
            until: stop after this epoch; the default is all epochs of the configuration.
            evaluate_every: measure the validation and test rows, and record, after every so many epochs and after
                the last; None: after the last only. With early stopping, every epoch.
            callback: called with a `ChunkDone` after each chunk's epoch and an `Epoch` after each recorded one; what it
                returns for an `Epoch`, if true, ends the training there.
            options: fields of `TrainConfig`, such as `epochs=20, lr=0.01`; they replace those of `config`.

        Raises:
            InputError: an argument outside its range, unfit data, or a network that fails on it.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> population = Population(lambda: nn.Linear(3, 1), [Setting(), Setting(weight_decay=0.1)], seeds=[0])
            >>> rows = torch.randn(20, 3), torch.randn(20, 1)
            >>> population.fit(rows, TrainConfig(epochs=2, lr=0.1), batch_size=10).final("train_loss").shape
            (1, 2)
        """
        started = time.perf_counter()
        if evaluate_every is not None:
            integer("evaluate_every", evaluate_every)
        if until is not None:
            integer("until", until, of="epochs")
        function("callback", callback)
        config = configured(config, options)
        sets = _dataset.of_seeds(data, len(self.seeds))
        recipe = config.recipe(sets[0].task, sets[0].weighted)
        epochs = recipe.epochs
        until = epochs if until is None else until
        reached = int(self.reached.min()) if self._chunks else 0
        if not reached < until <= epochs:
            raise InputError(
                f"the population has trained for {counted(reached, 'epoch')}; to go on, epochs (got {epochs}) "
                f"and until (got {until}) must be larger, and until at most epochs"
            )
        patient = recipe.early_stopping is not None or any(setting.get("patience") for setting in self.settings)
        if patient:
            if any("validation" not in of_seed.tables for of_seed in sets):
                raise InputError("early stopping needs validation rows: data.with_validation(0.2) sets some aside")
            evaluate_every = 1
        trainer = self._trainer(sets, recipe, started)
        ended = trainer.run(reached + 1, until, evaluate_every, callback)
        if patient and (ended or until == epochs):
            for chunk in self._chunks:
                chunk.restore_best(np.ones(chunk.shape, dtype=bool))
        return self.history

    @property
    def history(self) -> History:
        """The learning curves so far."""
        kept = self.reached
        for chunk, place in zip(self._chunks, self._places, strict=True):
            kept[place] = np.where(chunk.best_epoch > 0, chunk.best_epoch, kept[place])
        return self._recorder.history(self.settings, self.seeds, kept)

    @property
    def reached(self) -> Int64[np.ndarray, "S M"]:
        """How many complete epochs each member has trained for."""
        epochs = np.zeros((len(self.seeds), len(self.settings)), dtype=np.int64)
        for chunk, place in zip(self._chunks, self._places, strict=True):
            epochs[place] = chunk.epoch
        return epochs

    def evaluate(self, rows: Any) -> dict[str, Float[np.ndarray, "S M"]]:
        """Return every member's `loss` and, for classes, `accuracy` over rows, in evaluation mode; `fit` must have run.

        Args:
            rows: tensors `(inputs, ..., targets)`, a `Dataset`, or rows of a `Data`; or a list with one for each seed.
        """
        metrics: dict[str, np.ndarray] = {}
        for chunk, of_seeds, place, program, table in self._over(rows):
            for name, values in chunk.evaluate(program, table, of_seeds).items():
                metrics.setdefault(name, np.full(self._recorder.shape, np.nan))[place] = values
        for values in metrics.values():
            values[self._recorder.diverged_at > 0] = np.nan
        return metrics

    def outputs(self, rows: Any) -> list[Tensor]:
        """Return the members' outputs for rows in evaluation mode, on the CPU: for each seed `[M, N, ...]`.

        Args:
            rows: as for `evaluate`; `fit` must have run.
        """
        outputs: dict[int, list[Tensor]] = {}
        for chunk, of_seeds, (place, _), program, table in self._over(rows):
            answers = chunk.outputs(program, table, of_seeds).cpu()
            for s, part in zip(range(place.start, place.stop), answers, strict=True):
                outputs.setdefault(s, []).append(part)
        return [torch.cat(outputs[s]) for s in sorted(outputs)]

    def _over(self, rows: Any) -> Iterator[tuple[Chunk, slice, Span, Program, _dataset.Rows]]:
        """Give chunks, or those of their seeds that have equally many rows, with their place and their rows."""
        if self._program is None:
            raise InputError("there is nothing to evaluate yet: call fit, or prepare after loading")
        sources = rows if isinstance(rows, list) else [rows] * len(self.seeds)
        if len(sources) != len(self.seeds):
            raise InputError(
                f"{len(sources)} sets of rows for {len(self.seeds)} seeds: give one for all, or one for each"
            )
        known = {id(source): _dataset.table(source) for source in {id(source): source for source in sources}.values()}
        if not all(len(table.targets) for table in known.values()):
            raise InputError("there are no rows to evaluate on; `Data.with_validation` gives a data set some")
        self._check_ids(list(known.values()))
        for chunk, (of_seeds, of_settings) in zip(self._chunks, self._places, strict=True):
            device, dtype = chunk.state[0].device, chunk.state[0].dtype
            tables = [known[id(source)] for source in sources[of_seeds]]
            for run in rectangle.runs([len(table.targets) for table in tables]):
                place = slice(of_seeds.start + run.start, of_seeds.start + run.stop), of_settings
                yield chunk, run, place, self._program, _dataset.to_device(tables[run], device, dtype)

    def member(self, setting: Setting, seed: int) -> nn.Module:
        """Return one member as an ordinary network of the user's own class, in evaluation mode, on the CPU.

        Its dropout layers have the setting's rates, once `fit`, `prepare` or rows given to `load` have shown where.

        Raises:
            InputError: the population has no such member.
        """
        if setting not in self.settings or seed not in self.seeds:
            raise InputError(f"there is no member with {setting} and seed {seed}")
        network = self._build(seed, *self._known_row)
        s, m = self.seeds.index(seed), self.settings.index(setting)
        for chunk, (of_seeds, of_settings) in zip(self._chunks, self._places, strict=True):
            if of_seeds.start <= s < of_seeds.stop and of_settings.start <= m < of_settings.stop:
                network.to(chunk.state[0].dtype)
                own = tensors_of(network)
                with torch.no_grad():
                    for name, t in chunk.names.given(chunk.shown).items():
                        own[name].copy_(t[s - of_seeds.start, m - of_settings.start])
        if self._traces:
            places = self._any_trace().places
            set_rates(network, places, rates_at(setting.get("dropout"), places))
        return network.eval()

    def initial_model(self, seed: int) -> nn.Module:
        """Return the network of a seed with the weights that its members start from.

        Raises:
            InputError: no member has the seed, or the network's size is not known before `fit` or `prepare`.
        """
        if seed not in self.seeds:
            raise InputError(f"there is no member with seed {seed}")
        return self._build(seed, *self._known_row)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all parameters and buffers, by the network's own names, each `[S, M, ...]`.

        Members that keep an average of their weights have that.
        """
        if self._chunks:
            return _snapshot.whole(
                self._names, [chunk.shown for chunk in self._chunks], self._places, self._recorder.shape
            )
        if not self._networks:
            self._networks = [self._build(seed, *self._known_row) for seed in self.seeds]
        return self._names.given(self._stacked(self._networks, len(self.settings)))

    @property
    def row(self) -> tuple[tuple[int, ...], int] | None:
        """The shape of a row and the number of outputs that the network was made for; None before anything is known."""
        return self._row

    @property
    def _known_row(self) -> tuple[tuple[int, ...], int]:
        if self._build.wants and self._row is None:
            raise InputError("the network's size follows from the data: call fit first")
        return self._row or ((), 1)

    def select(self, members: Sequence[Setting] | Sequence[tuple[Setting, int]]) -> None:
        """Keep only the given members, with their weights and optimizer state.

        Args:
            members: settings, with all their seeds; or (setting, seed) pairs that make every setting with every seed.

        Raises:
            InputError: none, one that is not there, or pairs that do not make a rectangle.
        """
        s, m = rectangle.chosen(self.settings, self.seeds, members)
        if any(chunk.batch or chunk.epoch != self._chunks[0].epoch for chunk in self._chunks):
            raise InputError("the last epoch was interrupted: let fit finish it before members are dropped")
        snapshot = _snapshot.gather(self._chunks, self._places, self._recorder.shape) if self._chunks else None
        self.settings, self.seeds = tuple(self.settings[i] for i in m), tuple(self.seeds[i] for i in s)
        self._recorder = self._recorder.only(s, m)
        if snapshot is None:
            self._networks = []
        else:
            self._scatter(snapshot.only(s, m), self._cut([slice(len(s))]))

    @_with_gradients
    def explain(
        self, data: Any = None, config: TrainConfig | None = None, **options: Unpack[TrainOptions]
    ) -> Explanation:
        """Return how each layer will run, how many members at a time, what memory that takes, and what decays.

        Args:
            data: as for `fit`; not needed after it.
            config: as for `fit`; by default of one epoch.
            options: as for `fit`.

        Raises:
            InputError: nothing has been trained and there is no data to try.
        """
        if data is not None:
            self.prepare(data, config, **options)
        if self._program is None:
            raise InputError("explain needs data to try the network on: explain(data), or call fit first")
        return explain(self._program, self._why, self._any_trace(), self._chunks, self._decayed)

    @_with_gradients
    def prepare(self, data: Any, config: TrainConfig | None = None, **options: Unpack[TrainOptions]) -> None:
        """Make everything ready and train nothing: `outputs` and `evaluate` then serve a population that was loaded.

        Args:
            data: as for `fit`.
            config: as for `fit`; by default of one epoch.
            options: as for `fit`.

        Raises:
            InputError: as for `fit`.
        """
        sets = _dataset.of_seeds(data, len(self.seeds))
        config = configured(config, options, epochs=1)
        self._prepare(sets, config.recipe(sets[0].task, sets[0].weighted))

    @property
    def compiled(self) -> Kept | None:
        """What it has compiled, for `take_over` of another population of the same model; None where it has nothing."""
        return self._program.kept if isinstance(self._program, Fused) else None

    def take_over(self, compiled: Kept | None) -> None:
        """Let this population go on with what another one of the same model has compiled.

        Where its first step or an evaluation differs from that, it compiles its own, as without.

        Args:
            compiled: by a population of other settings, seeds or rows.
        """
        self._before = compiled

    def save(self, folder: str | Path) -> None:
        """Write everything that going on needs into `folder`, as `population.safetensors`, whole or not at all."""
        from dampen.engine import _checkpoint  # its schema library is not needed for training

        if not self._chunks:
            raise InputError("there is nothing to save yet: call fit first")
        about = {
            "settings": [setting.to_dict() for setting in self.settings],
            "seeds": list(self.seeds),
            "places": [[[p.start, p.stop] for p in place] for place in self._places],
            "chunk": self._chunk_size,
            "row": self._row,
            "epochs": self._recorder.epochs,
            "at_once": self._at_once,
        }
        snapshot = _snapshot.gather(self._chunks, self._places, self._recorder.shape)
        _checkpoint.write(as_path("folder", folder), about, snapshot, self._recorder)

    @classmethod
    def load(cls, folder: str | Path, model: Model, rows: Any = None) -> "Population":
        """Read a population that `save` wrote; `fit` then goes on exactly where it was.

        Args:
            folder: where it was saved.
            model: what it was made with.
            rows: a batch, as for `evaluate`; targets play no part. It shows where the network drops units, so that
                `member` has its setting's rates before `fit` or `prepare`.

        Raises:
            InputError: there is none, the file is damaged, it is of another network, or that can't take the rows.
        """
        from dampen import _schema
        from dampen.engine import _checkpoint

        place = as_path("folder", folder)
        about, snapshot, recorder = _checkpoint.read(place)
        file = place / _checkpoint.FILE
        with _schema.damaged(file):
            settings = [Setting.from_dict(values) for values in about.settings]
            population = cls(model, settings, about.seeds, chunk=about.chunk)
        population._recorder = recorder
        population._row = about.row
        population._places = [(slice(*seeds), slice(*members)) for seeds, members in about.places]
        population._at_once = about.at_once
        if population._build.wants and (outline := population._build.outline(*population._known_row)) is not None:
            snapshot.check(outline, file)  # before memory is taken for it
        network = population._build(population.seeds[0], *population._known_row)
        population._networks = [network.to(snapshot.dtype)]
        snapshot.check(network, file)
        try:
            population._chunks = _snapshot.scatter(
                snapshot, population._names, population.seeds, population.settings, population._places
            )
        except KeyError as e:
            raise InputError(f"{file} is damaged: it lacks {e.args[0]}") from None
        if rows is not None:
            population._trace(
                [t.to(snapshot.dtype if t.is_floating_point() else None) for t in _dataset.table(rows).inputs]
            )
        return population

    @property
    def _names(self) -> Names:
        network = self._networks[0]
        parameters = dict(network.named_parameters())
        trained = [name for name, p in parameters.items() if p.requires_grad]
        frozen = [name for name, p in parameters.items() if not p.requires_grad]
        return Names(tuple(trained), (*frozen, *(name for name, _ in network.named_buffers())))

    def _prepare(self, sets: list[_dataset.Sets], recipe: Recipe) -> Program:
        """Make networks, chunks, program and optimizers, or make ready those that there are."""
        device = recipe.device
        row = sets[0].input_shape, sets[0].outputs
        if self._chunks:
            held = self._chunks[0].state[0]
            if self._row and self._build.wants and row != self._row:
                raise InputError(
                    f"the population was made for rows of shape {list(self._row[0])} and {self._row[1]} outputs, the "
                    f"data has {list(row[0])} and {row[1]}"
                )
            if held.dtype != recipe.dtype and self._recorder.epochs:
                raise InputError(f"the population has trained in {held.dtype}: go on with the same precision")
            if held.dtype != recipe.dtype or held.device != device:
                self._move(device, recipe.dtype)
        self._row = row
        if not self._networks:
            self._networks = [self._build(seed, *row) for seed in self.seeds]
            check_shapes(self._networks)
        self._networks = [network.to(device, recipe.dtype) for network in self._networks]
        self._decayed = weight_decay.decayed(self._networks[0], recipe.decay_filter)
        if not self._decayed:
            raise InputError("the network has no parameter to train: none requires a gradient")
        self._check_ids([table for of_seed in sets for table in of_seed.tables.values()])
        if codes := sets[0].codes:
            refuse_changed_codes(codes, turned(self.settings))
            check_codes(self._networks[0], sets[0].tables["train"].inputs[0], codes)
        first = _dataset.to_device([sets[0].tables["train"]], device, recipe.dtype)
        largest = batches(len(first), recipe.batch_size, recipe.even_batches)[0]
        inputs, targets = first.span(largest.start, largest.stop)
        self._traces = {}
        traced = self._trace([t[0] for t in inputs])
        check_function(self._networks, [t[0] for t in inputs])
        for of_seed in {
            len(of_seed.tables["train"]): of_seed for of_seed in sets
        }.values():  # one row alone can't be normalised
            spans = batches(len(of_seed.tables["train"]), recipe.batch_size, recipe.even_batches)
            if any(span.stop - span.start == 1 for span in spans):
                self._check_one_row([t[0, :1] for t in inputs], recipe)
        warn_of_probabilities(traced.ends, recipe.loss)
        if sets[0].task == "classification" and traced.one_output and sets[0].outputs > 2:
            raise InputError(
                f"the network gives one number a row for {sets[0].outputs} classes: give it an output for each class, "
                "or float targets, of which no accuracy is counted"
            )
        alike = rectangle.runs([of_seed.key for of_seed in sets])
        if not self._chunks:
            own = sum(t.numel() * t.element_size() for t in self._networks[0].parameters())
            self._at_once = self._chunk_size or _memory.members_at_once(own, traced.activation_bytes, device)
            _memory.check_memory(len(self.seeds) * len(self.settings), 4 * own, device)
            self._set_chunks(self._cut(alike))
        elif not all(any(run.start <= s.start and s.stop <= run.stop for run in alike) for s, _ in self._places):
            self._cut_again(alike)
        row_bytes = max(1, traced.activation_bytes // targets.shape[1])
        followed = normalised(self._networks[0])
        for chunk, place in zip(self._chunks, self._places, strict=True):
            steps = len(batches(len(sets[place[0].start].tables["train"]), recipe.batch_size, recipe.even_batches))
            chunk.prepare(recipe, list(self._decayed.values()), row_bytes, steps, followed)
            chunk.active.check(recipe.loss, traced.sites, bool(traced.places), inputs, targets)
        per_epoch = len(batches(len(sets[0].tables["train"]), recipe.batch_size, recipe.even_batches))
        compiling = recipe.compiles(per_epoch)
        if self._program is None or not self._program.serves(recipe, device, compiling):
            how = compiling, self._before
            self._program, self._why = choose(
                self._networks[0], self._names, recipe, device, self._chunks, traced, inputs, targets, *how
            )
            if self._why is not None:
                module, reason = self._why
                kind = named(self._networks[0], module)
                line = f"{kind} can't be fused: {reason}; members train one after the other, with the same results"
                warn(line, NotFusedWarning, stacklevel=3)
        self._program.recipe = recipe
        return self._program

    def _trainer(self, sets: list[_dataset.Sets], recipe: Recipe, started: float) -> Trainer:
        """Make everything ready and return what trains."""
        program = self._prepare(sets, recipe)
        decayed = list(self._decayed.values())
        return Trainer(self._chunks, self._places, program, self._trace, self._recorder, decayed, sets, recipe, started)

    def _replace(self, settings: Sequence[Setting]) -> None:
        """Give the members other settings, one for each; `_prepare` has to follow."""
        settings = rectangle.distinct("setting", settings)
        if len(settings) != len(self.settings):
            raise InputError(f"{counted(len(settings), 'setting')} can't replace {len(self.settings)}: give as many")
        keys = [chunk.active.key for chunk in self._chunks]
        for chunk, (_, of_settings) in zip(self._chunks, self._places, strict=True):
            chunk.replace(settings[of_settings])
        self.settings = settings
        if keys != [chunk.active.key for chunk in self._chunks]:
            self._program = None  # a step with other operations is checked against the ordinary one again

    def _check_ids(self, tables: Sequence[_dataset.Table]) -> None:
        """Refuse rows with numbers that an embedding of the network has no row for."""
        device = next(self._networks[0].parameters()).device
        for table in {id(table): table for table in tables}.values():
            check_ids(self._networks[0], [t.to(device) for t in table.inputs])

    def _check_one_row(self, row: list[Tensor], recipe: Recipe) -> None:
        try:
            self._trace(row)
        except InputError as e:
            raise InputError(f"batches of {recipe.batch_size} leave one of a single row: {e}") from e

    def _cut(self, alike: Sequence[slice]) -> list[Span]:
        """Return places for chunks: of seeds that have equally many rows, which train in lockstep."""
        return rectangle.cut(len(self.seeds), len(self.settings), self._at_once, alike)

    def _cut_again(self, alike: Sequence[slice]) -> None:
        if any(chunk.batch for chunk in self._chunks):
            raise InputError("the last epoch was interrupted on other rows: let fit finish it on those")
        self._scatter(_snapshot.gather(self._chunks, self._places, self._recorder.shape), self._cut(alike))

    def _scatter(self, snapshot: _snapshot.Snapshot, places: list[Span]) -> None:
        held = self._chunks[0].state[0]
        self._places = places
        self._chunks = _snapshot.scatter(snapshot, self._names, self.seeds, self.settings, places)
        self._move(held.device, held.dtype)

    def _set_chunks(self, places: list[Span]) -> None:
        """Stack the networks into chunks; only the first is still needed then."""
        self._places, self._chunks = places, []
        for place in places:
            seeds, settings = self.seeds[place[0]], self.settings[place[1]]
            stacked = self._stacked(self._networks[place[0]], len(settings))
            self._chunks.append(Chunk(seeds, settings, self._names, stacked))
        self._networks = self._networks[:1]

    def _stacked(self, networks: Sequence[nn.Module], M: int) -> list[Tensor]:
        """Return parameters and buffers of S networks, `[S, M, ...]` each: M equal copies."""
        states = [tensors_of(n) for n in networks]
        return [
            torch.stack([state[name].detach() for state in states]).unsqueeze(1).repeat_interleave(M, 1)
            for name in (*self._names.trained, *self._names.rest)
        ]

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        self._networks = [network.to(device, dtype) for network in self._networks]
        for chunk in self._chunks:
            chunk.move(device, dtype)

    def _trace(self, inputs: Sequence[Tensor]) -> Trace:
        key = tuple(t.shape for t in inputs)
        if key not in self._traces:
            network = self._networks[0].train()
            state = tensors_of(network)
            self._traces[key] = trace(network, state, inputs, ActiveKnobs(self.settings).additions)
        return self._traces[key]

    def _any_trace(self) -> Trace:
        return next(iter(self._traces.values()))
