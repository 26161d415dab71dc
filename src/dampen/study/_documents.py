"""Schemas of a study's folder: the types and ranges of study.json, plan.json and the files of its progress."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from dampen import _schema
from dampen._schema import Count, Epochs, Fingerprint, Interval, Place, Real, Seed, Setting, Share, Text, Word
from dampen.engine.knobs import Setting as Knobs
from dampen.errors import InputError
from dampen.study import _config
from dampen.study._protocol import FORMAT
from dampen.study._storage import RUN, Folder

FINISHED, PROGRESS = "study.json", "search.json"
_Digits = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,8}\Z")]
_Positive = Annotated[str, Meta(pattern=r"\A[0-9]{1,20}(\.[0-9]{1,30})?(e[-+]?[0-9]{1,3})?\Z")]
# A name, or the same with values: SGD(momentum=0.9)
_Named = Annotated[str, Meta(pattern=r"\A[A-Za-z_-]{1,40}(\([A-Za-z0-9_=., '()+-]{0,200}\))?\Z")]
_Members = Annotated[int, Meta(ge=0, le=1_000_000)]
_Seeds = Annotated[list[Seed], Meta(min_length=1, max_length=100_000)]
_Checkpoint = Annotated[str, Meta(pattern=r"\A(confirmation|test)(-[0-9]{1,6})?\Z")]
_Run = Annotated[str, Meta(pattern=rf"\A{RUN}\Z")]
_Words = dict[Word, Text]


class _Begun(Struct, frozen=True, kw_only=True):
    format: Count = 0


class _BegunPlan(Struct, frozen=True, kw_only=True):
    plan: _Begun = _Begun()


class Source(Struct, frozen=True, kw_only=True):
    """What a study was made on."""

    name: Text
    source: Text
    fingerprint: Fingerprint


class Reading(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How that was read: arguments of `load`."""

    source: Place
    target: Text | None = None
    task: Literal["classification", "regression"] | None = None
    drop: list[Text] | Text | None = None
    category: list[Text] | Text | None = None
    text: list[Text] | Text | None = None
    codes: list[Text] | Text | None = None
    group: Text | None = None
    weight: Text | None = None
    test: Place | None = None
    time_order: Text | None = None
    image_size: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    image_max: Annotated[float, Meta(gt=0, le=3.5e38)] | None = None
    normalise: bool | None = None
    data_dir: Place | None = None
    seed: Seed | None = None
    test_fraction: Share | None = None


class Lengths(Struct, frozen=True, kw_only=True):
    """How long trainings are."""

    first: Epochs
    usual: Epochs
    planned: Epochs
    longest: Epochs


class Bracket(Struct, frozen=True, kw_only=True):
    """Settings that compete."""

    settings: _Members
    rungs: list[tuple[Epochs, _Members]]
    drawn: list[Setting] | None


class Options(Struct, frozen=True, kw_only=True):
    """How members train, as texts: what `_config.written` writes."""

    batch_size: _Digits
    even_batches: Literal["True", "False"] | UnsetType = UNSET
    optimizer: _Named
    lr: _Positive
    schedule: _Named
    precision: Annotated[str, Meta(pattern=r"\A[a-z0-9]{1,40}\Z")]
    device: Annotated[str, Meta(pattern=r"\A[a-z]{1,20}(:[0-9]{1,4})?\Z")]
    clip_grad_norm: _Positive | UnsetType = UNSET
    compile: Literal["True", "False"] | UnsetType = UNSET
    decay_filter: Literal["weights", "all"] | UnsetType = UNSET
    loss: Word | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not float(self.lr) < 1e30:
            raise ValueError("a learning rate is a finite number")
        _config.read(_schema.plain(self))  # raises where something has no such value


class Plan(Struct, frozen=True, kw_only=True):
    """What a study does, as `_plan.Plan.document` writes it."""

    format: Count | UnsetType = UNSET  # the first studies had none, and neither lengths nor families
    data: Source
    reading: Reading | UnsetType | None = UNSET
    target_scale: tuple[Real, Annotated[float, Meta(gt=0, le=1e300)]]
    model: Text
    metric: Word
    space: _Words
    search: Word
    brackets: list[Bracket]
    families: dict[Word, list[Setting]] | UnsetType = UNSET
    refined: _Members
    rounds: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET  # of a cocktail
    seeds: _Seeds
    lengths: Lengths | UnsetType = UNSET
    epochs: Epochs | UnsetType = UNSET
    confirmed: _Members
    confirm_seeds: _Seeds
    margin: Share | None
    scheme: Literal["folds", "held-out"]
    folds_a_round: Annotated[float, Meta(ge=1, le=100)] | UnsetType = UNSET  # of folds that were given
    seed: Seed
    training: Options
    budget: Annotated[float, Meta(gt=0, le=1e300)] | None
    versions: _Words
    compared: dict[Text, Setting] | UnsetType = UNSET


class Trained(Struct, frozen=True, kw_only=True):
    """A setting with its length."""

    setting: Setting
    epochs: Epochs
    stopped_at: Epochs | None


class Part(Struct, frozen=True, kw_only=True):
    """A share of the gain."""

    estimate: Real | None
    interval: Interval


class OwnUnit(Struct, frozen=True, kw_only=True):
    """A gain in the reader's own unit."""

    estimate: Real | None
    interval: Interval | UnsetType = UNSET
    unit: Text


class Calibrated(Struct, frozen=True, kw_only=True):
    """What is left of a gain where each network has a temperature."""

    estimate: Real | None
    interval: Interval
    worth: bool | None
    own: Trained


class Gain(Struct, frozen=True, kw_only=True):
    """What regularisation buys."""

    against: Text
    estimate: Real | None
    interval: Interval
    unit: Word
    share: Real | None
    own_unit: OwnUnit
    open: dict[Text, Part] | UnsetType = UNSET
    calibrated: Calibrated | UnsetType | None = UNSET


class Doubled(Struct, frozen=True, kw_only=True):
    """What twice as long would change."""

    difference: Real | None
    interval: Interval | UnsetType = UNSET
    standard_error: Real | None


class Length(Struct, frozen=True, kw_only=True):
    """How long to train."""

    epochs: Epochs
    doubled: Doubled | None
    shortest: bool | UnsetType = UNSET


class Leaks(Struct, frozen=True, kw_only=True):
    """What makes figures too good."""

    copies: Count
    test_copies: Count
    identifiers: list[Text]


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What ails a training."""

    overfits_from: Epochs | None
    underfits: bool | None
    leaks: Leaks
    beaten_by: list[Text]


class Against(Struct, frozen=True, kw_only=True):
    """The recommended training beside another one, or a simple model."""

    setting: Setting | None
    epochs: Epochs | None
    stopped_at: Epochs | None
    mean: Real | None
    difference: Real | None
    interval: Interval
    better: bool | None
    equivalent: bool

    def __post_init__(self) -> None:
        if (self.setting is None) != (self.epochs is None):
            raise ValueError("a setting has a length, a simple model has neither")


class Figure(Struct, frozen=True, kw_only=True):
    """A metric on the test rows, or a difference of it."""

    mean: Real | UnsetType | None = UNSET
    difference: Real | UnsetType | None = UNSET
    interval: Interval | None
    agrees: bool | UnsetType | None = UNSET


class Validation(Struct, frozen=True, kw_only=True):
    """The metric on the evaluation rows."""

    mean: Real | None
    interval: Interval


class Column(Struct, frozen=True, kw_only=True):
    """What was done to a column."""

    name: Text
    read_as: Text
    becomes: Text
    note: Text


class Work(Struct, frozen=True, kw_only=True):
    """What a study has trained."""

    settings: _Members
    seeds: _Members
    members: Count
    epochs: Epochs
    member_epochs: Annotated[float, Meta(ge=0, le=1e300)]


class Finished(Struct, frozen=True, kw_only=True):
    """`study.json`, as `Study.document` writes it."""

    data: Text
    columns: list[Column]
    notes: list[Text]
    metric: Word
    recommended: Setting
    chosen: Trained
    dropped: list[Word]
    validation: Validation
    helps: bool | None
    learnt: bool | None
    gain: Gain | None
    passed_over: Part | UnsetType | None = UNSET
    attribution: dict[Word, Part]
    calibrated_attribution: dict[Word, Part] | UnsetType = UNSET
    total: Part | None
    length: Length | UnsetType = UNSET
    diagnosis: Diagnosis | None
    off: Trained | None
    margin: Real | None
    references: dict[Text, Against]
    equivalent: list[Trained]
    mildest: Trained
    edges: _Words
    memory_epochs: Real | None
    method: Text
    bias: Text
    sentences: Annotated[list[Text], Meta(min_length=1)]
    test: dict[Text, dict[Word, Figure]]
    trained: Work
    seconds: Annotated[float, Meta(ge=0, le=1e300)]
    checkpoints: dict[Literal["confirmation", "test"], _Checkpoint] | UnsetType = UNSET
    folder: Place | None
    plan: Plan

    def __post_init__(self) -> None:
        if self.test and "recommended" not in self.test:
            raise ValueError("test: it lacks the recommended training")
        for one, metrics in self.test.items():
            if set(metrics) - {"against"} != set(self.test["recommended"]):
                raise ValueError(f"test: {one} and the recommended training have different metrics")
            for name, figure in metrics.items():
                if (figure.difference if name == "against" else figure.mean) is UNSET:
                    raise ValueError(f"test: {name} lacks its value")
        for setting in (self.recommended, *(other.setting for other in (self.chosen, self.mildest, *self.equivalent))):
            Knobs.from_dict(setting)  # raises where a knob does not exist or has no such value
        for other in self.references.values():
            if other.setting is not None:
                Knobs.from_dict(other.setting)
        if self.length is UNSET and self.plan.epochs is UNSET:
            raise ValueError("it lacks its length")


class Rung(Struct, frozen=True, kw_only=True):
    """What a rung of the search found: an entry of `search.json`, without its costs in the metric's unit."""

    run: _Run
    family: Word
    bracket: _Members
    epochs: Epochs
    settings: list[Setting]
    costs: list[Real | None]
    stops: list[tuple[Epochs, Real | None]]
    calibrated: list[Real | None] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _schema.check_lengths([self.settings, self.costs, self.stops], "settings, costs and stops")
        if self.calibrated is not UNSET:
            _schema.check_lengths([self.settings, self.calibrated], "settings and calibrated costs")
        for setting in self.settings:
            Knobs.from_dict(setting)


class Time(Struct, frozen=True, kw_only=True):
    """`time.json`: what the runs so far have taken."""

    seconds: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    member_epochs: Annotated[float, Meta(ge=0, le=1e18)] = 0.0


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`budget.json`: the sizes that a budget has led to, and the plan for which they were sought."""

    plan: Plan | UnsetType = UNSET  # older folders have none
    settings: Annotated[int, Meta(ge=1, le=1_000_000)]
    seeds: Annotated[int, Meta(ge=1, le=100_000)]
    lengths: Lengths
    confirm_seeds: Annotated[int, Meta(ge=2, le=100_000)] | UnsetType = UNSET
    # how long trainings that were not planned last, by decision; 0: there was no time for them
    beyond: dict[str, Annotated[int, Meta(ge=0, le=1_000_000)]] | UnsetType = UNSET


class LossChoice(Struct, frozen=True, kw_only=True):
    """`loss.json`: what a loss was chosen by, and the plan of the trainings that did."""

    plan: Plan | UnsetType = UNSET  # older folders have none
    loss: Literal["squared_error", "gaussian_nll"]
    nll: Annotated[dict[Literal["squared_error", "gaussian_nll"], Real], Meta(min_length=2)]


def finished(folder: Folder) -> dict[str, Any] | None:
    """Return what a study found, None where it has not ended.

    Raises:
        InputError: `study.json` is damaged, or of a later version.
    """
    begun = folder.read(FINISHED, _BegunPlan)
    if begun is not None and begun.plan.format > FORMAT:
        raise InputError(
            f"{folder.path / FINISHED} is of a later version of dampen: its plan has format {begun.plan.format}, this "
            f"version reads up to {FORMAT}; update dampen"
        )
    return _plain(folder, FINISHED, Finished)


def planned(folder: Folder) -> dict[str, Any] | None:
    """Return the plan of a study, None where there is none.

    Raises:
        InputError: `plan.json` is damaged, or of another version.
    """
    begun = folder.read("plan.json", _Begun)
    if begun is not None and begun.format != FORMAT:
        raise InputError(f"{folder.path} holds a study of another version of dampen: choose another folder")
    return _plain(folder, "plan.json", Plan)


def progress(folder: Folder, metric: str) -> list[dict[str, Any]]:
    """Return what each rung of the search has found so far.

    Args:
        folder: the study's.
        metric: its name: each rung also has its costs in that metric's unit.

    Raises:
        InputError: `search.json` is damaged.
    """
    file = folder.path / PROGRESS
    text = _schema.read_bytes(file)
    if text is None:
        return []
    rungs = _schema.plain(_schema.decode(text, list[Rung], file))
    entries = _schema.decode(text, list[dict[str, Raw]], file)  # one field has the metric's name
    for rung, every in zip(rungs, entries, strict=True):
        values = _schema.decode(bytes(every.get(metric, b"")), list[Real | None], file)
        if len(values) != len(rung["costs"]):
            raise InputError(f"{file} is damaged: costs and {metric} have different lengths")
        rung[metric] = values
    return rungs


def time_so_far(folder: Folder | None) -> Time:
    """Return what the runs so far have taken.

    Raises:
        InputError: `time.json` is damaged.
    """
    return (folder.read("time.json", Time) if folder is not None else None) or Time()


def budget(folder: Folder | None) -> dict[str, Any] | None:
    """Return the sizes that a budget has led to, None where that is not known yet.

    Raises:
        InputError: `budget.json` is damaged.
    """
    return None if folder is None else _plain(folder, "budget.json", Budget)


def loss_choice(folder: Folder | None) -> dict[str, Any] | None:
    """Return what a loss was chosen by, None where that is not known yet.

    Raises:
        InputError: `loss.json` is damaged.
    """
    return None if folder is None else _plain(folder, "loss.json", LossChoice)


def _plain(folder: Folder, name: str, kind: type[Any]) -> dict[str, Any] | None:
    document = folder.read(name, kind)
    return None if document is None else _schema.plain(document)
