"""What the system refuses: a full or closed output, names that are too long, memory; texts that others would run."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn

import dampen
from dampen import InputError
from dampen._io import counted, shortened
from dampen.cli._main import lacks_memory
from dampen.cli._output import print_table
from dampen.cli._writers import harmless, stream_json

LONG = "x" * 5000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_or_closed_output_is_one_line(tmp_path):
    program = [sys.executable, "-c", "from dampen.cli import main; main()", "knobs"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "dampen: the results can't be written: No space left on device\n"
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("dampen: standard output is closed")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("report", LONG),
        ("export", LONG),
        ("predict", LONG, "rows.csv"),
        ("tune", LONG),
        ("tune", f"{LONG}.csv"),
        ("tune", "iris", "--out", LONG, "--settings", "2", "--epochs", "1"),
        ("tune", "iris", "--hidden", LONG),
        ("tune", "iris", "--model", f"{LONG}:make"),
        ("explore", LONG),
        ("report", "a\0b"),
    ],
    ids=lambda words: f"{words[0]}-{len(words)}",
)
def test_a_name_of_5000_letters_is_one_short_line(run, words):
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("dampen: ")
    assert len(err) <= 2100


def test_a_bare_command_prints_its_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.count("\n") > 10
    assert re.search(r"^\W+tune ", out, re.MULTILINE)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        ImportError("libarrow.so.2600: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_the_want_of_memory_is_told_as_such(run, monkeypatch, error):
    def fail(*_, **__):
        raise ImportError("Unable to find a usable engine; tried using: 'pyarrow', 'fastparquet'.") from error

    monkeypatch.setattr("dampen.data.load", fail)
    code, out, err = run("tune", "iris")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("dampen: there is not enough memory for this")
    assert "fastparquet" not in err
    assert not lacks_memory(ValueError("rows"))


def test_a_file_or_column_that_is_called_so_is_no_want_of_memory(run, tmp_path):
    name = "out of memory.csv"
    assert run("tune", name) == (2, "", f"dampen: there is no file {name}; correct the name\n")
    (tmp_path / name).write_text("out of memory,b\n1,2\n")
    code, _, err = run("tune", name, "--target", "c")
    assert (code, err) == (2, f"dampen: {name} has no column 'c' (target); there are 'out of memory', 'b'\n")
    assert not lacks_memory(FileNotFoundError(2, "No such file or directory", name))


def test_no_text_of_predictions_is_a_spreadsheet_s_formula():
    words = [
        "=cmd|' /C calc'!A0",
        "+1+cmd",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        " =1",
        "＝1",
        "no",
        "-1.5",
        "+3e-2",
        "a=b",
        None,
    ]
    found = harmless({"prediction": np.array(words, dtype=object), "row": np.arange(len(words))})
    for word, cell in zip(words, found["prediction"], strict=True):
        runs = word in words[:7]
        assert cell == (f"'{word}" if runs else word)
    assert found["row"].dtype.kind == "i"
    assert words[0].startswith("=")  # the columns that were given are as they were


def test_predictions_of_classes_that_are_formulas_are_harmless_in_csv_and_whole_in_json(run, tmp_path):
    names = ["=cmd|' /C calc'!A0", "@b"]
    rows = pd.DataFrame({"size": [float(i % 50) for i in range(100)], "kind": [names[i % 50 > 24] for i in range(100)]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    data = dampen.load(tmp_path / "rows.csv", target="kind")
    settings = [dampen.Setting(weight_decay=w) for w in (0.0, 0.1)]
    dampen.compare(dampen.mlp(8), data, settings, n_seeds=2, epochs=2, out=tmp_path / "study")
    code, out, _ = run("predict", "study", "rows.csv", "--rows", "all", "--samples", "0")
    assert code == 0
    table = list(csv.DictReader(io.StringIO(out)))
    assert {row["target"] for row in table} == {f"'{name}" for name in names}
    code, out, _ = run("predict", "study", "rows.csv", "--rows", "all", "--samples", "0", "--json")
    assert {row["target"] for row in json.loads(out)["predictions"]} == set(names)


@pytest.mark.parametrize(
    ("encoding", "written"), [("utf-8", "caf\u00e9 \U0001f600"), ("ascii", "caf\\u00e9 \\ud83d\\ude00")]
)
def test_a_streamed_document_is_json_whatever_the_terminal_can_show(monkeypatch, encoding, written):
    shown = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", shown)
    cells = np.array(["caf\u00e9 \U0001f600"], dtype=object)
    stream_json({"data": cells[0]}, [{"prediction": cells}], lambda: {"notes": cells.tolist()})
    shown.flush()
    text = shown.buffer.getvalue().decode(encoding)
    assert text.count(written) == 3
    document = json.loads(text)
    assert document == {"data": cells[0], "predictions": [{"prediction": cells[0]}], "notes": [cells[0]]}


def test_figures_of_a_table_are_never_cut(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "100")
    assert Console().width == 100
    stream = io.StringIO()
    rows = [["recommended", *["0.1234 (0.1111 to 0.2222)"] * 6]]
    print_table(["", *[f"metric {i}" for i in range(6)]], rows, stream=stream)
    assert stream.getvalue().count("0.1234 (0.1111 to 0.2222)") == 6
    assert "…" not in stream.getvalue()


def test_words_that_are_shortened_stay_whole():
    text = " ".join(["convolution"] * 60)
    cut = shortened(text)
    assert len(cut) <= 200
    assert set(cut.split()) == {"convolution", "..."}
    assert shortened("as it is") == "as it is"
    assert len(shortened(LONG)) <= 200
    assert (counted(1, "member"), counted(0, "member")) == ("1 member", "0 members")


ROWS = torch.randn(40, 3)
ODD = {
    "sparse": (ROWS.to_sparse, "dense"),
    "compressed rows": (ROWS.to_sparse_csr, "dense"),
    "float8": (lambda: ROWS.to(torch.float8_e4m3fn), "real numbers, got float8"),
    "meta": (lambda: ROWS.to("meta"), "meta device"),
    "complex": (lambda: ROWS.to(torch.complex64), "real numbers, got complex64"),
    "too large": (lambda: ROWS * 0 + 3e38, r"beyond 1e\+30"),
}
NETWORK = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
TARGETS = torch.arange(40) % 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("make", "said"), ODD.values(), ids=ODD)
def test_tensors_that_are_no_plain_numbers_are_refused_everywhere(make, said):
    x = make()
    of_table = () if "beyond" in said else (lambda: dampen.load(x, target=TARGETS),)  # columns have units of their own
    for use in (
        *of_table,
        lambda: dampen.from_arrays(x, TARGETS),
        lambda: dampen.Population(lambda: NETWORK, [dampen.Setting()], [0]).fit((x, TARGETS), epochs=1),
        lambda: dampen.mc_dropout(NETWORK, x, 2),
        lambda: dampen.predict(NETWORK, x),
    ):
        with pytest.raises(InputError, match=said) as caught:
            use()
        assert "\n" not in str(caught.value)
