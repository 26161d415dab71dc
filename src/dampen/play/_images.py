"""The second study, watched: a network with dropout on images, and what its Monte-Carlo samples show of single ones."""

import base64
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.ndimage import rotate
from torch import Tensor

from dampen.data import Data, is_here, load
from dampen.engine import Epoch, Setting
from dampen.errors import InputError
from dampen.experiments import dropout as study
from dampen.experiments.dropout import DROPOUT, NO_DROPOUT
from dampen.play._paired import Difference
from dampen.play._training import Band, _band, _with_band
from dampen.statistics import paired_difference
from dampen.uncertainty import ClassPrediction, mc_dropout

HIDDEN = (256, 128)
N_SEEDS = 3
COVERAGE = 0.9  # share of the images that are believed
BINS = 20  # of a probability's histogram
SAMPLES = 100  # Monte-Carlo samples of every test image: threshold, lists and the image that is shown are of one run
_MOST_TEST = 1000  # test images that are looked at: more take seconds after each epoch
_SHOWN_CLASSES = 3
_EPOCHS_PER_SECOND = 20.0

RATES = tuple(i / 20 for i in range(1, 19))
SETS = ("digits", "fashion-mnist", "mnist")
NOTCHES: Mapping[str, tuple[float, ...]] = {
    "rate_1": RATES,
    "rate_2": RATES,
    "rows": (100, 200, 500, 1000, 2000, 5000, 10000, 60000),
    "epochs": (1, 2, 5, 10, 20, 30, 50, 100),
    "rotation": tuple(range(0, 181, 10)),
}


def sets_here() -> list[str]:
    """Return the sets of images that need no network."""
    return [name for name in SETS if name == "digits" or is_here(name)]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the page is set to.

    Args:
        data: one of `SETS`.
        rate_1: dropout rate of the first hidden layer.
        rate_2: of the second.
        rows: training images at most.
        epochs: length of the training.
        image: number of the test image that is shown.
        rotation: by which it is turned, in degrees.

    Raises:
        InputError: a value outside its range.
    """

    data: str = "digits"
    rate_1: float = 0.3
    rate_2: float = 0.5
    rows: int = 5000
    epochs: int = 10
    image: int = 0
    rotation: int = 0

    def __post_init__(self) -> None:
        if self.data not in SETS:
            raise InputError(f"data must be one of {', '.join(SETS)}, got {self.data!r}")
        ranges = {name: (notches[0], notches[-1]) for name, notches in NOTCHES.items()} | {"image": (0, _MOST_TEST)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:  # not for NaN either
                raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")

    def trains_as(self, other: "Choice") -> bool:
        """Return whether a training of this one is one of the other."""
        shown = {"image": 0, "rotation": 0, "epochs": 1}
        return replace(self, **shown) == replace(other, **shown)

    def query(self) -> dict[str, str]:
        """Return what an address has to name."""
        usual = Choice()
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return {name: f"{v:g}" if not isinstance(v := getattr(self, name), str) else v for name in names}


def from_query(query: Mapping[str, str]) -> tuple[Choice, list[str]]:
    """Read the page's setting from an address; return it, and a line on each value that could not be used."""
    choice, notes = Choice(), []
    for name in (f.name for f in fields(Choice) if f.name in query):
        usual, text = getattr(choice, name), query[name][:40]
        try:
            if name == "data" and text in SETS and text not in sets_here():
                raise InputError(f"{text} is not on this machine (DAMPEN_DATA names its folder)")
            choice = replace(choice, **{name: type(usual)(text)})
        except ValueError as e:
            said = e if isinstance(e, InputError) else f"{name} must be a number, got {text!r}"
            notes.append(f"{said}: {usual} is used")
    return choice, notes


@dataclass(frozen=True)
class Shown:
    """What Monte-Carlo dropout shows of one image.

    Args:
        number: of the image.
        picture: as the address of an image.
        label: its class.
        names: of the likeliest classes.
        probabilities: of these, means over the samples.
        counts: how many samples give each of these classes a probability in each bin.
        entropy: of the mean, in nats.
        mutual_information: what the samples disagree on.
        single: class and its probability by the network without dropout.
        believed: whether the entropy is within the threshold.
    """

    number: int
    picture: str
    label: str
    names: list[str]
    probabilities: list[float]
    counts: list[list[int]]
    entropy: float
    mutual_information: float
    single: tuple[str, float]
    believed: bool


@dataclass(frozen=True)
class Trust:
    """Which test images to believe: half of them give the threshold, the others are counted.

    Args:
        threshold: of the entropy: as many of the first half lie below as are to be believed.
        n_believed: images of the second half that lie below.
        right: share of these that are right.
        n_others: images of the second half that lie above.
        others_right: share of these that are right.
        order: numbers of the second half's images, the least certain first.
        wrong: those that are classified wrongly, the most certain first.
    """

    threshold: float
    n_believed: int
    right: float
    n_others: int
    others_right: float
    order: list[int]
    wrong: list[int]


@dataclass(frozen=True)
class ImagesSnapshot:
    """Where the training is; pairs are with dropout, and without.

    Args:
        epoch: epochs trained.
        epochs: how many there will be.
        done: whether that is the end.
        lines: of the epochs, as at the command line.
        loss: of training and test, each with and without.
        accuracy: likewise.
        n_train: training images.
        n_images: test images that can be shown.
        difference: test accuracy with dropout minus without.
        shown: the image; None before the first epoch.
        trust: likewise.
    """

    epoch: int
    epochs: int
    done: bool
    lines: tuple[str, ...]
    loss: dict[str, tuple[Band, Band]]
    accuracy: dict[str, tuple[Band, Band]]
    n_train: int
    n_images: int
    difference: Difference
    shown: Shown | None
    trust: Trust | None


class ImagesTraining:
    """Trains a network with dropout beside one without, epoch by epoch; see `_live.Training`.

    Args:
        choice: what the page is set to.
        read: reads a set by its name.
    """

    def __init__(self, choice: Choice, read: Callable[[str], Data] = load):
        self._choice, self._read = choice, lru_cache(maxsize=1)(read)
        self.reset()

    @property
    def speed(self) -> float:
        """Epochs a second at most; 0 at the end."""
        return 0.0 if self._epoch >= self._choice.epochs else _EPOCHS_PER_SECOND

    def advance(self) -> None:
        """Train an epoch, until the last one."""
        if self._epoch < self._choice.epochs:
            epochs = self._choice.epochs
            study.train(self._population, self._data, epochs=epochs, until=self._epoch + 1, callback=self._after)
            self._epoch += 1
            self._sampled = None

    def change(self, choice: Choice) -> None:
        """Show another image, train for longer, or begin again with other rates or images."""
        before, self._choice = self._choice, choice
        if not before.trains_as(choice):
            self.reset()

    def reset(self) -> None:
        """Begin again."""
        choice = self._choice
        data = self._read(choice.data)
        data = data.subset(min(choice.rows, len(data.train_rows)))
        if len(data.test_rows) > _MOST_TEST:
            kept = torch.randperm(len(data.test_rows), generator=torch.Generator().manual_seed(0))[:_MOST_TEST]
            data = replace(data, test_rows=data.test_rows[kept])
        self._data, self._population = study.untrained(data, self._rates, HIDDEN, range(N_SEEDS))
        self._epoch, self._lines = 0, list[str]()
        self._sampled: tuple[ClassPrediction, Trust] | None = None

    @property
    def _rates(self) -> tuple[float, float]:
        return self._choice.rate_1, self._choice.rate_2

    def _after(self, event: Any) -> None:
        if isinstance(event, Epoch):
            self._lines.append(study.epoch_line(event))

    def snapshot(self) -> ImagesSnapshot:
        """Return what there is to see now."""
        history = self._population.history if self._epoch else None
        final = history.final("test_accuracy") if history is not None else np.zeros((N_SEEDS, 2))
        paired = paired_difference(final[:, DROPOUT], final[:, NO_DROPOUT])
        sampled, trust = self._of_all() if history is not None else (None, None)

        def pairs(metric: str) -> dict[str, tuple[Band, Band]]:
            if history is None:
                return {}
            found = {}
            for part in ("train", "test"):
                bands = _with_band(history.metrics[f"{part}_{metric}"], 1)  # [E, M, 3]
                found[part] = _band(bands[:, DROPOUT]), _band(bands[:, NO_DROPOUT])
            return found

        return ImagesSnapshot(
            epoch=self._epoch,
            epochs=self._choice.epochs,
            done=self._epoch >= self._choice.epochs,
            lines=tuple(self._lines),
            loss=pairs("loss"),
            accuracy=pairs("accuracy"),
            n_train=len(self._data.train_rows),
            n_images=len(self._data.test_rows) - len(self._data.test_rows) // 2,
            difference=Difference(paired.mean, paired.low, paired.high),
            shown=None if sampled is None or trust is None else self._shown(sampled, trust),
            trust=trust,
        )

    def _member(self, number: int) -> torch.nn.Module:
        rates = self._rates if number == DROPOUT else (0.0, 0.0)
        return self._population.member(Setting(dropout=rates), 0)

    def _sample(self, images: Float[Tensor, "N C H W"], first_row: int) -> ClassPrediction:
        found = mc_dropout(
            self._member(DROPOUT), images, SAMPLES, task="classification", first_row=first_row, return_samples=True
        )
        assert isinstance(found, ClassPrediction)
        return found

    def _of_all(self) -> tuple[ClassPrediction, Trust]:
        """Return the samples of all test images, and which of these to believe; the same until the next epoch."""
        if self._sampled is None:
            rows = self._data.test
            found = self._sample(rows.features, 0)
            self._sampled = found, _trust(found, rows.targets)
        return self._sampled

    @torch.no_grad()
    def _shown(self, sampled: ClassPrediction, trust: Trust) -> Shown:
        half = len(self._data.test_rows) // 2
        number = min(self._choice.image, len(self._data.test_rows) - half - 1)
        row = half + number
        turned = _turned(self._data.test.features[row], self._choice.rotation)
        found, at = (self._sample(turned[None], row), 0) if self._choice.rotation else (sampled, row)
        entropy = float(found.entropy[at])
        assert found.draws is not None
        single = self._member(NO_DROPOUT)(turned[None]).softmax(1)[0]
        classes = self._data.classes
        assert classes is not None
        likeliest = found.probabilities[at].argsort(descending=True)[:_SHOWN_CLASSES].tolist()
        edges = np.linspace(0, 1, BINS + 1)
        return Shown(
            number=number,
            picture=_picture(turned),
            label=classes[int(self._data.test.targets[row])],
            names=[classes[c] for c in likeliest],
            probabilities=found.probabilities[at, likeliest].tolist(),
            counts=[np.histogram(found.draws[:, at, c].clamp(0, 1).numpy(), edges)[0].tolist() for c in likeliest],
            entropy=entropy,
            mutual_information=float(found.mutual_information[at]),
            single=(classes[int(single.argmax())], float(single.max())),
            believed=entropy <= trust.threshold,
        )


_LISTED = 50  # images that the page can go through


def _trust(found: ClassPrediction, targets: Tensor) -> Trust:
    entropy, right = found.entropy.numpy(), (found.classes == targets).numpy()
    half = len(found) // 2
    threshold = float(np.quantile(entropy[:half], COVERAGE, method="higher"))
    entropy, right = entropy[half:], right[half:]
    believed = entropy <= threshold
    order = np.argsort(-entropy, kind="stable")
    wrong = order[::-1][~right[order[::-1]]]
    return Trust(
        threshold=threshold,
        n_believed=int(believed.sum()),
        right=_mean(right[believed]),
        n_others=int((~believed).sum()),
        others_right=_mean(right[~believed]),
        order=order[:_LISTED].tolist(),
        wrong=wrong[:_LISTED].tolist(),
    )


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else math.nan


def _turned(image: Float[Tensor, "C H W"], degrees: int) -> Float[Tensor, "C H W"]:
    """Return an image turned about its middle; what comes in at the corners is background."""
    if not degrees:
        return image
    low = float(image.min())
    turned = rotate(image.numpy(), degrees, axes=(1, 2), reshape=False, order=1, mode="constant", cval=low)
    return torch.from_numpy(np.ascontiguousarray(turned))


def _picture(image: Float[Tensor, "C H W"]) -> str:
    """Return a grey image, whose values are from -1 to 1, as the address of an image."""
    grey = ((image[0].numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(grey).save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def images_training(choice: Choice) -> ImagesTraining:
    """Make the training of the page."""
    return ImagesTraining(choice)
