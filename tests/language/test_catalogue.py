"""Messages and their twins: none is lacking where sentences are shown, and both have the same places and numbers."""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dampen._language import Catalogue, catalogue, choose, of_environment, part, read, shown, speaking
from dampen.cli._main import language_of
from dampen.errors import InputError

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "src" / "dampen" / "locale" / "zh.po"
PLACES, NUMBERS = re.compile(r"\{(\d+)"), re.compile(r"\d+")


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    spec = importlib.util.spec_from_file_location("messages", ROOT / "tests" / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.messages()


@pytest.fixture(scope="module")
def entries() -> dict[str, str]:
    return read(CATALOGUE.read_text(encoding="utf-8"))


def test_the_catalogue_has_every_message_of_the_source_and_no_other(found, entries):
    assert set(entries) == set(found), "run python tests/messages.py"


def test_no_message_of_the_source_lacks_its_twin(found, entries):
    assert not [message for message in found if not entries.get(message)]


def test_twins_have_the_places_and_the_numbers_of_their_messages(entries):
    for message, twin in entries.items():
        if twin:
            assert set(PLACES.findall(message)) == set(PLACES.findall(twin)), message
            numbers = [sorted(NUMBERS.findall(re.sub(r"\{\d+(:\w)?\}", "", text))) for text in (message, twin)]
            assert numbers[0] == numbers[1], message


def test_gettext_s_own_compiler_reads_the_catalogue():
    msgfmt = shutil.which("msgfmt")
    if msgfmt is None:
        pytest.skip("gettext's msgfmt is not installed")
    done = subprocess.run(
        [msgfmt, "--check-format", "-o", "/dev/null", CATALOGUE], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_line_without_a_twin_is_shown_as_it_is():
    with speaking("zh"):
        assert shown("no line of ours: 3 of 4") == "no line of ours: 3 of 4"
        assert shown("") == ""
    assert shown("diverged") == "diverged"


def test_a_line_that_is_taken_apart_without_end_is_shown_as_it_is():
    line, before = ", ".join(["row"] * 60), sys.getrecursionlimit()
    with speaking("zh"):
        shown("diverged")  # reads the catalogue
        try:
            sys.setrecursionlimit(len(inspect.stack()) + 60)  # or 500 of them
            assert shown(line) == line
            assert part("diverged" * 40) == "diverged" * 40
        finally:
            sys.setrecursionlimit(before)


def test_what_stands_in_a_place_is_not_translated_unless_its_twin_marks_it():
    book = Catalogue({"no column '{0}'": "没有列 '{0}'", "Note: {0}.": "注意：{0:t}。", "better": "更好"})
    assert book.twin("no column 'better'") == "没有列 'better'"
    assert book.twin("Note: better.") == "注意：更好。"


def test_the_most_particular_message_is_meant_and_numbers_are_told_from_words():
    book = Catalogue(
        {"{0} epochs": "{0:d} 轮", "lr {0}": "学习率 {0:v}", "the {0} of {1}": "{1}的{0}", "the end of {0}": "{0}完"}
    )
    assert book.part("lr 0.1, 3 epochs") == "学习率 0.1，3 轮"
    assert book.part("many epochs") == "many epochs"
    assert book.twin("the end of it") == "it 完"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "de_DE", "LANG": "zh_CN"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "en_GB"}, "zh"),
        ({"DAMPEN_LANG": "en", "LC_ALL": "zh_CN"}, "en"),
        ({"DAMPEN_LANG": "zh"}, "zh"),
        ({"LANGUAGE": "en_GB:en", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANGUAGE": "fr:zh_CN", "LANG": "fr_FR.UTF-8"}, "zh"),
        ({"LANGUAGE": "fr", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANGUAGE": "", "LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANGUAGE": "zh_CN", "LC_ALL": "C"}, "en"),
        ({"LANGUAGE": "zh_CN"}, "en"),
        ({"LANGUAGE": "zh_CN", "LANG": "zh_CN.UTF-8", "DAMPEN_LANG": "en"}, "en"),
    ],
)
def test_the_language_is_that_of_dampen_lang_or_else_of_the_locale(environment, name):
    assert of_environment(environment) == name


def test_lang_may_stand_anywhere_on_the_command_line():
    assert language_of(["--lang=zh", "runs"]) == (["runs"], "zh")
    assert language_of(["runs", "--", "--lang", "zh"]) == (["runs", "--", "--lang", "zh"], None)
    for words in (["--lang"], ["--lang", "fr"], ["--lang="]):
        with pytest.raises(InputError, match="must be one of en, zh"):
            language_of(words)


def test_errors_notes_and_help_are_chinese_and_json_is_not(tmp_path, monkeypatch, capsys):
    from dampen.cli._main import run

    def printed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dampen", *words])
        with pytest.raises(SystemExit) as end, speaking("en"):
            run()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    monkeypatch.chdir(tmp_path)
    assert printed("runs", "show", "nothing", "--lang", "zh")[::2] == (
        2,
        "dampen: 没有研究 nothing，这里和 dampen-runs 中都没有：dampen runs 列出已有的研究\n",
    )
    (tmp_path / "dampen-runs").mkdir()
    assert "dampen-runs 中没有研究" in printed("--lang", "zh", "runs")[1]
    for words in ((), ("tune",), ("runs",), ("runs", "show")):
        page = printed(*words, "--help", "--lang", "zh")[1]
        assert " 用法：dampen" in page
        assert "显示此帮助，然后退出。" in page
    assert printed("--lang", "zh", "runs", "list", "--json")[1] == printed("runs", "list", "--json")[1]


def test_lines_that_are_put_together_of_parts_are_chinese_throughout():
    lines = (
        "Test accuracy: dropout changes it by -0.0132 (95 % interval -0.1803 to +0.1540 over 2 seeds): without dropout "
        "it is no worse on average, but not significantly better over these seeds.",
        "Better than dropout: dropconnect, input_noise; worse than dropout: gaussian_dropout; each at the strength "
        "that validation rows choose.",
        "note: 3 more columns are beyond the training rows in 4 rows ('a', 'b'): the network extrapolates there",
        "Linear can't be fused: its control flow depends on the values of a tensor: choose by torch.where instead; "
        "members train one after the other, with the same results",
        "3 images of more than 8 bits scaled: 65535, 16 bits, is white, their largest value is 60000",
        "budget must be one of 30, 60, got 'soon': 60 is used",
    )
    kept = r"Linear|torch\.where|DropConnect|input_noise|gaussian_dropout|budget|'\w+'"
    with speaking("zh"):
        for line in lines:
            twin = shown(line)
            assert sorted(re.findall(r"\d+", twin)) == sorted(re.findall(r"\d+", line))
            assert not re.search("[A-Za-z]{2}", re.sub(kept, "", twin)), twin


def test_lines_of_the_command_line_are_chinese_but_for_options_names_and_measures():
    lines = (
        "which column of x.csv is to be predicted? name it with --target; there are 'a', 'b'",
        "target 'a' has 3 distinct whole numbers: treated as classes (--task regression for values)",
        "the 215 test rows of 858 are predicted; --rows all takes every one",
        "note: rows of x.csv may have taken part in training; their summary may be too good: there is no file x.csv; "
        "correct the name",
        "Data('a': regression, 643 training, 0 validation and 215 test rows, inputs 59, outputs 1)",
        "Data('a': classification of 'b', 643 training, 0 validation and 215 test rows, inputs 59, outputs 3)",
        "Dropout inserted after 1 (ReLU); not after the activations that are called as functions in the network's own "
        "forward.",
        "x.py has no 'a': name a function that makes a network",
        "No such command 'predit'. Did you mean 'predict'?",
        "column 'a' looks like free text and is not used: use --text a to make inputs of its words",
        "--text: column 'a' can't be free text and the target too; leave out one of them",
        "--text: column 'b' holds numbers, no free text; leave it out",
        "column 'a' has no word that is an input in 1 row ('x')",
        "No setting is significantly better than no regularisation. The best estimate is weight decay 0, dropout 0.6, "
        "4 epochs: a gain of 1.7e+03 (-1150 to 4477) in mse over the same training without regularisation, not "
        "significant.",
        "the study there has other values: the network, settings (15 there, 3 here), epochs (3 there, none here)",
        "Rows of 'x' are detected best by standard deviation: AUROC 0.9 (95 % interval 0.8 to 1), FPR at 95 % TPR 10%.",
        "Rows of 'x' are not told apart by any score: at best AUROC 0.5 (95 % interval 0.4 to 0.6), by entropy; 0.5 is "
        "chance.",
        "RMSE 147.5 on 215 rows; log likelihood -6.4130; Gaussian 95 % intervals cover 94.9%, conformal ones for 0.9 "
        "94.9%.",
        "Means over seeds, with bands of one standard error. The training loss is that of the batches, with dropout "
        "active where there is any. Losses are of the standardised target, (target - 492.7) / 175.1. From the diamond "
        "on the validation loss rises while the training loss falls: overfitting.",
    )
    kept = r"--rows all|--task regression|--[\w-]+|'\w+'|x\.(csv|py)|ReLU|mse|RMSE|\(target|forward|e\+"
    kept += "|AUROC|FPR|TPR|none"
    with speaking("zh"):
        for line in lines:
            assert not re.search("[A-Za-z]{2}", re.sub(kept, "", shown(line))), shown(line)
        assert part("1 input: -1 or 1") == "1 个输入：-1 或 1"
        assert part("3 inputs: days, time of the year") == "3 个输入：天数，一年中的时刻"
        assert part("9 inputs: tf-idf of words and pairs of words, unknown ones ignored") == (
            "9 个输入：词和相邻词对的 tf-idf，未知的忽略"
        )


def test_english_reads_no_catalogue():
    catalogue.cache_clear()
    with speaking("en"):
        shown("diverged")
    assert catalogue.cache_info().currsize == 0
    choose("en")
