"""A verdict of every kind has its sentences in Chinese, with the figures of the English ones."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dampen._language import shown, speaking
from dampen.engine.knobs import Setting
from dampen.metrics import METRICS
from dampen.search import LogUniform, Training
from dampen.study import _verdict_text, load_study
from dampen.study._diagnosis import Diagnosis
from dampen.study._findings import Against, CalibratedGain, Findings, Gain, Length, Part
from dampen.study._on_test_rows import on_test_rows
from dampen.study._verdict_text import BIASES, NAMES

FOLDERS = Path(__file__).parents[1] / "study" / "data"
FIGURES = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
KEPT = re.compile(  # what is the same in both: metrics, names of options and papers
    r"mc-nll|nll|mse|rmse|mae|brier|RMSE|AdamW|epochs=\d+|--epochs|--group \w+|Python|weight_decay|dropout|lr\b|"
    r"Nadeau and Bengio|Bonferroni, Dunn|Berger|Wang and Aitchison|Bergsma et al\.|Berta et al\.|steps per epoch|"
    r"'\w+'|\d+e[-+]\d+|1e|L1|user_id|cosine|r2"
)
METHODS = [
    "95 % intervals from 5 fresh folds with fresh seeds, corrected for the rows that folds share (Nadeau and Bengio "
    "2003); they account for variation across seeds and rows, and hold for all 21 pairs, whichever training is "
    "the best (Bonferroni, Dunn 1961); those of the 3 parts of the gain hold together. Regularisation helps where it "
    "is better than every training without it (an intersection-union test, Berger 1982). The network starts from the "
    "same weights with every seed (does its function set a seed itself?): the variation across initial weights is not "
    "in the intervals. Rows of a group are one observation. Rows count by their weights.",
    "95 % intervals from 3 fresh seeds crossed with the evaluation rows (two-way random effects); they account for "
    "variation across seeds and rows.",
]


class Draw:
    """Findings by chance: every branch of the sentences in a few hundred of them."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def maybe(self, value):
        return value if self.random.random() < 0.5 else None

    def number(self):
        return self.random.choice([0.0, 1e-7, 12345.6, -0.25, self.random.gauss(0, 1), self.random.gauss(0, 0.01)])

    def positive(self):
        return abs(self.number()) + 0.001

    def part(self):
        low, middle, high = sorted(self.number() for _ in range(3))
        return self.random.choice([Part(middle, (low, high)), Part(float("nan"), (low, high)), Part(0.0, (0.0, 0.0))])

    def whole_part(self):
        low, middle, high = sorted(self.number() for _ in range(3))
        return Part(middle, (low, high))

    def setting(self):
        values = {
            "weight_decay": self.random.choice([0.0, 0.0123, 3.5e-05]),
            "dropout": self.random.choice([0.0, 0.25, (0.1, 0.253, 0.5)]),
            "lr": self.random.choice([0.01, 0.003]),
            "label_smoothing": 0.1,
            "decay_schedule": "cosine",
        }
        return Setting(**{name: value for name, value in values.items() if self.random.random() < 0.6})

    def training(self):
        epochs = self.random.choice([1, 2, 40, 120])
        return Training(self.setting(), epochs, self.maybe(max(1, epochs // 2)))

    def findings(self) -> Findings:
        choose = self.random.choice
        chosen, recommended = self.training(), self.training()
        names = list(NAMES)
        references = {
            name: Against(
                training=None if name in ("constant", "linear", "boosting") else self.training(),
                value=choose([self.positive(), float("nan")]) if name != "constant" else self.positive(),
                difference=self.number(),
                interval=self.whole_part().interval,
                better=choose([True, False, None]),
                equivalent=choose([True, False]),
            )
            for name in dict.fromkeys(["constant", *self.random.sample(names, 4)])
        }
        diagnosis = Diagnosis(
            overfits_from=self.maybe(8),
            underfits=choose([True, False, None]),
            leaks={
                "copies": choose([0, 1, 12]),
                "test_copies": choose([0, 1, 7]),
                "identifiers": choose([[], ["user_id"]]),
            },
            beaten_by=choose([(), ("linear",), ("linear", "boosting"), ("none_stopped_early",)]),
        )
        helps = choose([True, False, None])
        part = self.whole_part()
        if helps:
            part = Part(part.interval[0] ** 2 + 0.25, (part.interval[0] ** 2, part.interval[0] ** 2 + 0.5))
        gain = Gain(
            against=choose(["none", "none_stopped_early", "off"]),
            part=part,
            unit="",
            share=0.1,
            in_target_unit=self.maybe(self.whole_part()),
            target_unit=choose(["of 1000 rows", "RMSE"]),
            open=choose(
                [{}, {"none": self.whole_part()}, {"off": self.whole_part(), "none_stopped_early": self.whole_part()}]
            ),
            calibrated=self.maybe(CalibratedGain(self.whole_part(), self.training(), choose([True, False, None]))),
        )
        return Findings(
            metric=choose(list(METRICS.values())),
            recommended=recommended.setting,
            regularised=choose([True, False]),
            chosen=chosen,
            dropped=choose([(), ("weight_decay",), ("dropout", "label_smoothing")]),
            value=self.positive(),
            interval=self.whole_part().interval,
            references=references,
            helps=helps,
            learnt=choose([True, True, False, None]),
            gain=self.maybe(gain),
            passed_over=self.maybe(self.whole_part()),
            calibrated_attribution=choose([{}, {"together": self.part(), "dropout": self.part()}]),
            attribution={
                name: self.part()
                for name in self.random.sample(
                    ["lr", "length", "regularisation", "weight_decay", "dropout", "together"], 4
                )
            },
            total=self.maybe(self.part()),
            length=Length(choose([1, 40]), self.maybe(self.number()), self.positive(), self.whole_part().interval),
            diagnosis=self.random.choice([diagnosis, diagnosis, None]),
            off=None,
            margin=self.positive(),
            equivalent=(),
            mildest=choose([recommended, self.training()]),
            edges=choose([{}, {"weight_decay": LogUniform(1e-3, 10.0)}, {"dropout": "0.7 or less"}]),
            memory_epochs=self.maybe(choose([3.14, 12345.0])),
            usual=(0.001, choose([1, 30])),
            method=choose(METHODS),
            bias=choose(list(BIASES.values())),
        )

    def test_rows(self, findings: Findings):
        low, middle, high = sorted(self.number() for _ in range(3))
        agrees = self.random.choice([True, False, None])
        against = {"difference": middle, "interval": [low, high], "agrees": agrees}
        return {"recommended": {}, "none": {"against": against}, "linear": {"against": {**against, "agrees": agrees}}}


def figures(text: str) -> list[str]:
    return sorted(FIGURES.findall(text))


def drawn(seed: int) -> list[str]:
    draw = Draw(seed)
    findings = draw.findings()
    lines = _verdict_text.sentences(replace(findings))
    return [*lines, *on_test_rows(draw.test_rows(findings), findings)]


@pytest.mark.parametrize("start", [0, 100, 200, 300])
def test_every_sentence_is_chinese_with_the_same_figures(start):
    for line in {line for seed in range(start, start + 100) for line in drawn(seed)}:
        with speaking("zh"):
            twin = shown(line)
        assert figures(twin) == figures(line), (line, twin)
        assert not re.search("[A-Za-z]{2}", KEPT.sub("", twin).replace("e-", "").replace("nan", "")), (line, twin)


@pytest.mark.parametrize("name", ["tuned-0.1.0", "compared-0.1.0"])
def test_a_study_of_an_older_version_prints_chinese_from_its_folder_whose_document_stays_english(name):
    study = load_study(FOLDERS / name)
    with speaking("zh"):
        printed, document = str(study).splitlines(), study.document()
    assert document == study.document()
    assert str(study).splitlines() == study.sentences() == document["sentences"]
    for twin, line in zip(printed, study.sentences(), strict=True):
        assert figures(twin) == figures(line)
    chinese = [twin for twin in printed if re.search("[\u4e00-\u9fff]", twin)]
    assert len(chinese) > len(printed) / 2  # sentences in words of that version have no twin
