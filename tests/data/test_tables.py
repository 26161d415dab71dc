"""People's tables: what becomes of each column, fitted on training rows only, and kept as plain data."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

import dampen
from dampen import InputError, load
from dampen.data import Preprocessing
from dampen.study import load_study

N = 240


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(50, 10, N),
            "age": np.where(rng.random(N) < 0.2, np.nan, rng.integers(0, 90, N)),
            "colour": rng.choice(["red", "green", "blue"], N),
            "city": [f"city {i}" for i in rng.integers(0, 50, N)],
            "when": pd.date_range("2023-01-01", periods=N, freq="31h"),
            "smokes": rng.random(N) < 0.5,
            "price": rng.normal(size=N),
        }
    )
    frame["price"] += 0.1 * frame["size"] + frame["colour"].map({"red": 0.0, "green": 1.0, "blue": 2.0})
    return frame


def slots(data, name):
    return [i for i, column in enumerate(data.normalisation.columns.inputs(data.outputs)) if column.startswith(name)]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "parquet", "feather"])
def test_every_kind_of_file_gives_what_the_frame_gives(frame, tmp_path, ending):
    path = tmp_path / f"houses.{ending}"
    if "sv" in ending:
        frame.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    else:
        getattr(frame, f"to_{ending}")(path)
    data, expected = load(path, target="price"), load(frame, target="price")
    assert data.name == "houses"
    assert torch.equal(data.targets, expected.targets)
    assert torch.equal(data.test_rows, expected.test_rows)
    torch.testing.assert_close(data.train.features, expected.train.features)
    torch.testing.assert_close(data.test.features, expected.test.features)


def test_excel_gives_what_the_frame_gives(frame, tmp_path):
    pytest.importorskip("openpyxl", reason="the extra [excel] is not installed")
    frame.to_excel(tmp_path / "houses.xlsx", index=False)
    data, expected = load(tmp_path / "houses.xlsx", target="price"), load(frame, target="price")
    torch.testing.assert_close(data.train.features, expected.train.features)


def test_a_polars_frame_gives_what_the_pandas_frame_gives(frame):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    data, expected = load(polars.from_pandas(frame), target="price"), load(frame, target="price")
    torch.testing.assert_close(data.train.features, expected.train.features)


def test_anything_with_to_pandas_is_a_frame(frame):
    table = pyarrow.Table.from_pandas(frame)
    torch.testing.assert_close(load(table, target="price").train.features, load(frame, target="price").train.features)


def test_numbers_are_scaled_as_the_paper_says(frame):
    data = load(frame, target="price")
    train = frame["size"].to_numpy()[data.train_rows]
    low, middle, high = np.quantile(train, [0.25, 0.5, 0.75])
    z = (train - middle) / (high - low)
    expected = z / np.sqrt(1 + (z / 3) ** 2)
    (slot,) = slots(data, "size")
    np.testing.assert_allclose(data.train.features[:, slot], expected, rtol=1e-5, atol=1e-6)


def test_a_missing_number_is_the_median_and_says_so(frame):
    data = load(frame, target="price")
    value, flag = slots(data, "age")
    missing = torch.tensor(frame["age"].isna().tolist())[data.train_rows]
    assert torch.equal(data.train.features[:, flag], missing.float())
    assert (data.train.features[missing][:, value] == 0).all()


def test_few_categories_are_scikit_learns_one_hot(frame):
    data = load(frame, target="price")
    names = data.normalisation.columns.inputs(1)
    at = slots(data, "colour")
    order = [[names[i].split("=")[1] for i in at]]
    expected = OneHotEncoder(categories=order, sparse_output=False).fit_transform(frame[["colour"]])
    np.testing.assert_array_equal(data.test.features[:, at], expected[data.test_rows])


def test_many_categories_are_scikit_learns_target_encoding_of_the_training_rows(frame):
    data = load(frame, target="price")
    y = data.targets[data.train_rows].double().numpy()
    train, test = (frame[["city"]].iloc[rows.numpy()] for rows in (data.train_rows, data.test_rows))
    encoder = TargetEncoder(target_type="continuous").fit(train, y)
    expected = (encoder.transform(test)[:, 0] - y.mean()) / y.std()
    np.testing.assert_allclose(data.test.features[:, slots(data, "city")[0]], expected, atol=1e-5)


def test_a_training_row_s_own_target_is_not_among_its_inputs():
    """Noise as a category of hundreds of levels: encoded with its own target it would predict that target."""
    rng = np.random.default_rng(1)
    n = 2000
    noise = pd.DataFrame({"level": [f"l{i}" for i in rng.integers(0, 400, n)], "x": rng.normal(size=n)})
    noise["y"] = rng.normal(size=n)
    data = load(noise, target="y")
    encoded = data.train.features[:, slots(data, "level")[0]].numpy()
    assert abs(np.corrcoef(encoded, data.train.targets)[0, 1]) < 0.1


def test_a_date_is_days_and_waves(frame):
    data = load(frame, target="price")
    names = [name.removeprefix("when ") for name in data.normalisation.columns.inputs(1) if name.startswith("when")]
    assert names == ["trend", "year sin", "year cos", "week sin", "week cos", "day sin", "day cos"]
    hours = frame["when"].dt.hour.to_numpy()[data.test_rows]
    found = data.test.features[:, slots(data, "when day sin")[0]]
    np.testing.assert_allclose(found, np.sin(2 * np.pi * hours / 24), atol=1e-3)


@pytest.mark.parametrize(
    ("pattern", "note"),
    [
        ("%Y-%m-%d", ""),
        ("%d.%m.%Y", ""),
        ("%Y/%m/%d %H:%M", ""),
        ("%m/%d/%Y", ""),
        ("%d/%m/%Y", ""),
        ("%m/05/%Y", "month first; day first fits, too"),
    ],
)
def test_text_that_is_a_date_in_every_row_is_read_as_one(frame, pattern, note):
    data = load(frame.assign(when=frame["when"].dt.strftime(pattern)), target="price")
    (column,) = (column for column in data.columns.used if column.name == "when")
    assert (column.kind, column.said) == ("date", note)
    day = frame["when"].dt.strftime("%Y-%m-05" if note else "%Y-%m-%d").astype("datetime64[ns]")
    days = (day - pd.Timestamp(0)).dt.days
    found = np.floor(data.features[:, data.feature_names.index("when")].numpy() + column.offset)
    np.testing.assert_array_equal(found, days)


def test_what_is_estimated_comes_from_the_training_rows_of_each_fold(frame):
    """Other rows may hold anything: the inputs of the training rows stay the same."""
    data = load(frame, target="price")
    for fold in data.folds(3):
        changed = fold.features.clone()
        changed[fold.validation_rows] = 7.0
        changed[fold.test_rows] = -1.0
        targets = fold.targets.clone()
        targets[fold.validation_rows] = 99.0
        other = replace(fold, features=changed, targets=targets)
        assert torch.equal(other.train.features, fold.train.features)


def test_test_rows_decide_nothing_about_the_columns(frame):
    data = load(frame, target="price")
    odd = frame.copy()
    rows = data.test_rows.numpy()
    odd.loc[rows, "colour"] = "a colour of its own"
    odd.loc[rows, "size"] = 1e6
    assert load(odd, target="price").columns == data.columns


def test_an_unseen_level_is_none_of_the_known_ones(frame):
    data = load(frame, target="price")
    kept = Preprocessing.of(data)
    rows = frame.drop(columns="price").head(3).assign(colour=["violet", None, "red"])
    found = kept.inputs(rows)[:, slots(data, "colour")]
    assert found.sum(1).tolist() == [0, 0, 1]


def test_the_preprocessing_is_plain_data_and_takes_the_raw_file(frame, tmp_path):
    data = load(frame, target="price")
    text = json.dumps(Preprocessing.of(data).document(), allow_nan=False)
    kept = Preprocessing.from_document(json.loads(text))
    frame.drop(columns="price").to_csv(tmp_path / "new.csv", index=False)
    found = kept.inputs(tmp_path / "new.csv")
    torch.testing.assert_close(found[data.test_rows], data.test.features)
    with pytest.raises(InputError, match=r"lacks 'city', which the training rows have; its columns are 'size'"):
        kept.inputs(frame.drop(columns="city"))


def test_what_load_was_told_reads_the_same_again(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.to_csv("houses.csv", index=False)
    data = load("houses.csv", target="price", drop=["age"], group="city", seed=3)
    told = json.loads(json.dumps(dict(data.reading)))
    monkeypatch.chdir("/")
    again = load(**told)
    assert torch.equal(again.train.features, data.train.features)
    assert torch.equal(again.test_rows, data.test_rows)
    assert load(frame, target="price").reading is None
    assert load("wine").reading["source"] == "wine"


def test_a_study_keeps_the_preprocessing_of_its_last_training(frame, tmp_path):
    small = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    data = load(frame, target="price")
    study = dampen.tune(dampen.mlp(4), data, out=tmp_path / "study", **small)
    kept = Preprocessing.from_document(json.loads((tmp_path / "study" / "preprocessing.json").read_text()))
    outputs = study.model()(kept.inputs(frame)).detach().squeeze(-1)[data.test_rows]
    mean, deviation = study.plan.target_scale
    told = study.test["recommended"]["mse"]["mean"]
    each = [
        ((m(kept.inputs(frame)).squeeze(-1)[data.test_rows] * deviation + mean) - data.test.targets)
        for m in study.ensemble()
    ]
    assert told == pytest.approx(np.mean([e.square().mean().item() for e in each]), rel=1e-4)
    assert outputs.isfinite().all()
    assert study.document()["plan"]["reading"] is None
    assert {"name": "size", "read_as": "number"}.items() <= study.document()["columns"][0].items()


def test_a_study_of_a_file_is_opened_again_from_its_folder_alone(frame, tmp_path, monkeypatch):
    frame.to_csv(tmp_path / "houses.csv", index=False)
    small = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    data = load(tmp_path / "houses.csv", target="price", drop="age")
    study = dampen.tune(dampen.mlp(4), data, out=tmp_path / "study", **small)
    monkeypatch.chdir("/")
    kept = load_study(tmp_path / "study")
    inputs = kept.results.predictor.inputs(kept.data, data.test_rows)
    torch.testing.assert_close(kept.model()(inputs), study.model()(data.test.features))
    with pytest.raises(InputError, match="'table' is not the table that the study was made on"):
        kept.results.predictor.inputs(load(frame.iloc[:100], target="price", drop="age"), torch.arange(5))


def test_a_test_file_is_the_test_set(frame, tmp_path):
    frame.iloc[:200].to_csv(tmp_path / "train.csv", index=False)
    frame.iloc[200:].assign(colour="violet", surplus=1).to_parquet(tmp_path / "test.parquet")
    data = load(tmp_path / "train.csv", target="price", test=tmp_path / "test.parquet")
    assert data.test_rows.tolist() == list(range(200, N))
    assert (data.test.features[:, slots(data, "colour")] == 0).all()
    frame.drop(columns=["age", "city"]).to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(InputError, match="the test file lacks 'age', 'city'"):
        load(tmp_path / "train.csv", target="price", test=tmp_path / "less.csv")


def test_groups_stay_together_in_every_split(frame):
    data = load(frame, target="smokes", group="city")
    group = data.groups
    sides = [data.test_rows, data.train_rows]
    for one in [*data.folds(3), data.with_validation(0.3)]:
        parts = [set(group[rows].tolist()) for rows in (one.train_rows, one.validation_rows, one.test_rows)]
        assert sum(map(len, parts)) == len(set().union(*parts)) == frame["city"].nunique()
    assert 0.15 < len(sides[0]) / N < 0.35
    small = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    assert "Rows of a group are one observation." in str(dampen.tune(dampen.mlp(4), data, **small).verdict)
    assert "city" not in [column.name for column in data.columns.used]


def test_a_group_called_na_is_one_group_and_rows_without_one_are_told(frame):
    """Namibia's code, which pandas takes for a missing value."""
    rows = np.arange(len(frame))
    country = pd.Series(np.where(rows % 5 == 0, "NA", np.where(rows % 7 == 0, "", "DE" + (rows % 20).astype(str))))
    data = load(frame.assign(country=country), target="smokes", group="country", test_fraction=0.0)
    of_na, alone = (data.groups[torch.tensor(np.flatnonzero(country == name))] for name in ("NA", ""))
    assert len(of_na.unique()) == 1
    assert len(alone.unique()) == len(alone)
    assert not set(of_na.tolist()) & set(alone.tolist())
    told = [note for note in data.notes if note.startswith("group 'country'")]
    assert told == [
        f"group 'country': 'NA' in {len(of_na)} rows is treated as a group; leave these cells empty if they are "
        "missing",
        f"group 'country' is missing in {len(alone)} rows: each is a group of its own",
    ]


def test_later_rows_judge_what_earlier_ones_train(frame):
    shuffled = frame.sample(frac=1.0, random_state=0)
    data = load(shuffled, target="price", time_order="when").with_validation(0.2)
    sorted_price = torch.tensor(frame["price"].to_numpy(), dtype=torch.float32)
    for rows, (start, end) in {"train": (0, 144), "validation": (144, 180), "test": (180, 240)}.items():
        assert torch.equal(data.targets[getattr(data, f"{rows}_rows")], sorted_price[start:end])
    assert "when trend" not in data.columns.inputs(1)
    with pytest.raises(InputError, match="order of time"):
        load(frame, target="price", time_order="when").folds(3)
    small = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    study = dampen.tune(dampen.mlp(4), load(frame, target="price", time_order="when"), **small)
    assert study.plan.scheme == "held-out"


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["no", "yes"] * 30, "classification", ("no", "yes")),
        ([True, False] * 30, "classification", ("False", "True")),
        ([10, 9, 2] * 20, "classification", ("2", "9", "10")),
        ([1.0, 2.0] * 30, "classification", ("1", "2")),
        ([0.5, 1.0] * 30, "regression", None),
        (list(range(60)), "regression", None),
    ],
)
def test_the_task_follows_from_the_target(values, task, classes):
    rng = np.random.default_rng(0)
    data = load(pd.DataFrame({"x": rng.normal(size=60), "y": values}))
    assert (data.task, data.classes) == (task, classes)
    assert any("treated as classes" in note for note in data.notes) == (classes in (("2", "9", "10"), ("1", "2")))


def test_a_regression_on_few_whole_numbers_is_asked_for():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=60), "y": [3, 4, 5] * 20})
    assert load(table, task="regression").targets.tolist() == [3.0, 4.0, 5.0] * 20


def test_the_target_is_guessed_where_its_name_says_so_and_asked_for_where_not(frame):
    assert load(frame.rename(columns={"price": "Target"})).target_name == "Target"
    with pytest.raises(InputError, match=r"which column of the table is to be predicted\? .* 'size', 'age'"):
        load(frame)
    with pytest.raises(InputError, match=r"no column 'cost' \(target\); there are 'size'"):
        load(frame, target="cost")


def test_numbers_beyond_float32_s_digits_keep_their_differences():
    stamps = 1_700_000_000 + np.arange(0, 6000, 100)[np.random.default_rng(0).permutation(60)]
    data = load(pd.DataFrame({"at": stamps.astype(float) + 0.5, "y": np.arange(60.0)}))
    assert len(data.features[:, 0].unique()) == 60


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path):
    text = "a;b;y\n" + "".join(f"{i},5;{i};{i % 7},25\n" for i in range(70))
    (tmp_path / "german.csv").write_text(text)
    data = load(tmp_path / "german.csv", task="regression")
    assert data.targets[1].item() == 1.25
    assert data.columns.used[0].kind == "number"


def test_arrays_tensors_and_datasets_are_data():
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    from_tensor = load(x, target=y)
    from_array = load(x.numpy(), target=y.numpy())
    from_dataset = load(torch.utils.data.TensorDataset(x, y))
    for data in (from_array, from_dataset):
        assert torch.equal(data.features, from_tensor.features)
        assert torch.equal(data.targets, from_tensor.targets)
        assert torch.equal(data.test_rows, from_tensor.test_rows)
    own = load(torch.utils.data.TensorDataset(x, y), test=torch.utils.data.TensorDataset(x[:10], y[:10]))
    assert own.test_rows.tolist() == list(range(40, 50))


def test_npz_files_are_read_by_their_usual_names(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (60, 4, 4), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "keras.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    np.savez(tmp_path / "plain.npz", X=rng.normal(size=(60, 3)), y=labels)
    keras = load(tmp_path / "keras.npz")
    assert keras.inputs == (1, 4, 4)
    assert keras.test_rows.tolist() == list(range(40, 60))
    assert load(tmp_path / "plain.npz").inputs == (3,)
    np.savez(tmp_path / "odd.npz", a=labels, b=labels)
    with pytest.raises(InputError, match=r"holds 'a' \[60\], 'b' \[60\]; inputs are to be called x"):
        load(tmp_path / "odd.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "keras.npz").read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.npz can't be read as npz"):
        load(tmp_path / "cut.npz")
