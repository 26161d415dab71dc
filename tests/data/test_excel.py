"""Workbooks: which sheet is read, and formulas that nobody has computed."""

import numpy as np
import pandas as pd
import pytest

from dampen import InputError, load
from dampen.data import Preprocessing

openpyxl = pytest.importorskip("openpyxl", reason="the extra [excel] is not installed")
N = 40
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(N, 2)), columns=list("ab")).assign(y=np.repeat(["p", "q"], N // 2))
README = pd.DataFrame({"note": ["what", "is", "what"]})


def book(tmp_path, **sheets):
    with pd.ExcelWriter(tmp_path / "book.xlsx") as writer:
        for name, frame in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False)
    return tmp_path / "book.xlsx"


def test_the_first_sheet_that_is_not_empty_is_read_and_others_are_named(tmp_path):
    several = load(book(tmp_path, one=FRAME, two=FRAME + FRAME), target="y")
    assert several.notes == ("sheet 'one' is read, the first one; not read: 'two'",)
    alone = load(book(tmp_path, Sheet1=pd.DataFrame(), one=FRAME), target="y")
    assert alone.notes == ()
    assert alone.train.features.equal(several.train.features)
    assert several.train.features.equal(load(FRAME, target="y").train.features)


def test_a_sheet_that_is_no_table_is_named(tmp_path):
    path = book(tmp_path, README=README, data=FRAME)
    where = r"book.xlsx \(sheet 'README', the first one; not read: 'data'\)"
    with pytest.raises(InputError, match=f"{where} has no column 'y'"):
        load(path, target="y")
    with pytest.raises(InputError, match=f"{where} lacks 'a', 'b'"):
        Preprocessing.of(load(FRAME, target="y")).read(path)
    with pytest.raises(InputError, match=r"test file \(sheet 'README'.* lacks the target 'y'"):
        load(FRAME, target="y", test=path)
    with pytest.raises(InputError, match=f"{where} has no rows"):
        load(book(tmp_path, README=README[:0], data=FRAME), target="y")


def test_formulas_without_values_are_told(tmp_path):
    path = book(tmp_path, data=FRAME)
    workbook = openpyxl.load_workbook(path)
    sheet = workbook.active
    sheet["D1"] = "sum"
    for row in range(2, N + 2):
        sheet[f"D{row}"] = f"=A{row}+B{row}"
    workbook.save(path)
    data = load(path, target="y")
    told = "formulas without a value, treated as missing: open and save the file in a spreadsheet"
    assert data.notes[0].startswith(f"column 'sum' holds {N} {told}")
    assert data.columns.inputs(2) == ["a", "b"]
    for row in range(2, N + 2):
        sheet[f"C{row}"] = f"=IF(A{row}>0, 1, 0)"
    workbook.save(path)
    with pytest.raises(InputError, match="target 'y' holds formulas without values: open and save"):
        load(path, target="y")
