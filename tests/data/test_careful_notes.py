"""What a careful reader sees in a table: names spelt in two ways, a row of totals, rows without a time, units."""

import numpy as np
import pandas as pd
import pytest

from dampen import InputError, load
from dampen.data import Preprocessing

N = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "day": pd.date_range("2024-01-01", periods=N).strftime("%Y-%m-%d"),
        "n": RNG.integers(1, 90, N),
        "y": RNG.normal(9, 1, N),
    }
)
ALIKE = "differ only by case or blanks"


def test_categories_and_classes_that_differ_by_case_alone_are_named(tmp_path):
    frame = FRAME.assign(place=RNG.choice(["North", "north ", "south"], N), y=RNG.choice(["Yes", "yes", "no"], N))
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (frame, tmp_path / "t.csv"):
        data = load(source, target="y")
        notes = [note for note in data.notes if ALIKE in note]
        assert [note.split(":")[0] for note in notes] == [
            f"target 'y' has classes that {ALIKE} ('Yes' and 'yes')",
            f"column 'place' has categories that {ALIKE} ('North' and 'north')",
        ]
        assert set(data.columns.used[2].levels) == {"North", "north", "south"}
    new = frame.drop(columns="y").head(1).assign(place="SOUTH")
    (told,) = Preprocessing.of(load(frame, target="y")).read(new).notes
    assert "lack in 1 row ('SOUTH'; 'south' but for its case)" in told
    other = frame.assign(place=RNG.choice(["North", "East", "New York"], N), y=RNG.choice(["yes", "no"], N))
    assert load(other, target="y").notes == ()


def test_a_class_too_rare_to_keep_is_named_beside_the_one_that_it_may_be():
    labels = np.array(["yes"] * 30 + ["no"] * 28 + ["YES"] * 2)
    notes = load(FRAME.assign(y=labels), target="y").notes
    assert notes[0].startswith(f"target 'y' has classes that {ALIKE} ('YES' and 'yes')")
    assert notes[1].startswith("2 rows left out")


def with_last(**cells):
    return pd.concat([FRAME, pd.DataFrame([cells])], ignore_index=True)


TOTALS = {
    "sums": {"day": "Total", "n": FRAME["n"].sum(), "y": FRAME["y"].sum()},
    "rounded": {"day": "Summe:", "n": FRAME["n"].sum(), "y": round(FRAME["y"].mean(), 2)},
    "target alone": {"day": "GRAND TOTAL", "y": round(FRAME["y"].sum(), 1)},
    "empty": {"day": "合计"},
}


@pytest.mark.parametrize("cells", TOTALS.values(), ids=TOTALS)
def test_a_last_row_of_totals_is_told(cells, tmp_path):
    with_last(**cells).to_csv(tmp_path / "t.csv", index=False)
    for source in (with_last(**cells), tmp_path / "t.csv"):
        data = load(source, target="y")
        label = cells["day"]
        assert data.notes[0] == f"the last row looks like a total ('{label}' in column 'day'): if it is one, remove it"
        assert len(data.targets) == N + ("y" in cells)
    (said, *_) = Preprocessing.of(load(FRAME, target="y")).read(tmp_path / "t.csv").notes
    assert said == data.notes[0]


def test_a_last_row_that_only_has_the_word_is_a_row():
    for row in ({"day": "Total", "n": 7, "y": 9.0}, {"day": "2024-03-01", "n": FRAME["n"].sum(), "y": 9.0}):
        assert not any("total" in note for note in load(with_last(**row), target="y").notes)


def test_rows_without_a_time_are_named_with_what_to_do():
    frame = FRAME.copy()
    frame.loc[[4, 17], "day"] = [None, "unknown"]
    with pytest.raises(InputError) as refused:
        load(frame, target="y", time_order="day")
    assert str(refused.value) == (
        "time order 'day' is missing in 2 rows (4, 17, counting from 0 below the column names), where it holds "
        "'unknown': fill in when these rows were taken, remove them, or leave time_order out"
    )
    with pytest.raises(InputError, match=r"in 1 row of the test file \(16, .*, where it holds 'unknown'"):
        load(FRAME, target="y", time_order="day", test=frame.drop(index=4).assign(n=1))


@pytest.mark.parametrize(
    ("cell", "unit"), [("{} kg", "'kg'"), ("€{}.5", "'€'"), ("{} %", "'%'"), ("$ {} k", "'$' and 'k'")]
)
def test_the_unit_of_a_target_is_named(cell, unit):
    values = [cell.format(i + 1) for i in range(N)]
    with pytest.raises(InputError) as refused:
        load(FRAME.assign(y=values), target="y")
    assert str(refused.value).endswith(f"write plain numbers, without {unit}")


def test_a_number_of_each_order_is_no_input_where_a_row_stands_twice():
    frame = FRAME.assign(**{"Order ID": 7_000 + RNG.permutation(N)})
    told = {row[0]: row for row in load(pd.concat([frame, frame[:2]]), target="y").columns.summary(1)}
    assert told["Order ID"][2] == "not used"
    assert told["Order ID"][3].startswith("an identifier: ")
    index = frame.assign(price_index=np.where(np.arange(N) == 0, frame["Order ID"][1], frame["Order ID"]))
    assert {row[0]: row for row in load(index, target="y").columns.summary(1)}["price_index"][1] == "number"
    repeating = frame.assign(**{"Order ID": 7_000 + np.arange(N) // 2})
    assert {row[0]: row for row in load(repeating, target="y").columns.summary(1)}["Order ID"][1] == "number"
