"""A study's folder may come from a stranger: what is wrong with it is one line, nothing of it is run or allocated."""

import json
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dampen
from dampen import InputError, LogUniform, Uniform
from dampen.study import _calibration_rows, _documents, load_study
from dampen.study._storage import Folder

SPACE = {"weight_decay": LogUniform(1e-3, 1.0, zero=0.1), "dropout": Uniform(0.0, 0.5)}
SMALL = {"n_settings": 4, "n_seeds": 1, "epochs": 2, "confirmed": 1, "n_confirm_seeds": 2}
CODE = "3\nimport os; os.system('touch hacked')"
SCRIPT = "<script>document.title='hacked'</script>"


def network():
    return dampen.mlp(8, dropout=0.2)


def read(file):
    import pandas as pd

    frame = pd.DataFrame({"size": [40 + i % 37 for i in range(90)], "garden": ["no", "yes", "a bit"] * 30})
    frame["when"] = pd.date_range("2020-01-01", periods=90).astype(str)
    frame["place"] = [f"p{i % 30}" for i in range(90)]
    frame["price"] = 3.0 * frame["size"] + 50.0 * (frame["garden"] == "yes") + frame.index % 7
    frame.to_csv(file, index=False)
    return dampen.load(file, target="price")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Hold a study of a table, with a search, and what a report and an export of it are."""
    where = tmp_path_factory.mktemp("hostile")
    dampen.tune(network(), read(where / "rows.csv"), SPACE, out=where / "study", **SMALL)
    return where


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made / "study", tmp_path / "study")
    shutil.copy(made / "rows.csv", tmp_path / "rows.csv")
    return tmp_path / "study"


def edited(file, change):
    """Apply a change to a JSON file."""
    document = json.loads(file.read_text())
    found = change(document)
    file.write_text(json.dumps(document if found is None else found))


def put(*path):
    """Return a change that puts a value, the last of `path`, in its place."""
    *steps, name, value = path

    def change(document):
        at = document
        for step in steps:
            at = at[step]
        at[name] = value

    return change


def drop(*path):
    """Return a change that leaves something out."""
    *steps, name = path

    def change(document):
        at = document
        for step in steps:
            at = at[step]
        del at[name]

    return change


def header_of(file):
    with safe_open(file, "pt") as held:
        return json.loads(held.metadata()["dampen"])


def with_header(file, change, tensors=None, digest=False):
    """Apply a change to what a file of dampen's says and to its tensors; forge its digest if it has one."""
    about, held = header_of(file), load_file(file)
    found = change(about)
    about = about if found is None else found
    if tensors is not None:
        tensors(held)
    if digest:
        told = {name: value for name, value in about.items() if name != "digest"}
        about["digest"] = _calibration_rows._digest(told, held)
    save_file(held, file, {"dampen": json.dumps(about)})


NESTED = "[" * 200_000 + "]" * 200_000
STUDY = {
    "an empty object": lambda d: {},
    "a list": lambda d: [d],
    "code as epochs": lambda d: d["plan"].update(epochs=CODE) or drop("length")(d),
    "code as length": put("length", "epochs", CODE),
    "code as seed": put("plan", "seed", CODE),
    "code as a seed of the confirmation": put("plan", "confirm_seeds", [CODE]),
    "code as batch size": put("plan", "training", "batch_size", CODE),
    "code as learning rate": put("plan", "training", "lr", f"1e-3{CODE}"),
    "code as precision": put("plan", "training", "precision", "float32\nimport os"),
    "code as schedule": put("plan", "training", "schedule", CODE),
    "code as a scale": put("plan", "target_scale", [CODE, 1.0]),
    "no deviation": put("plan", "target_scale", [0.0, 0.0]),
    "HTML as a knob": put("recommended", {SCRIPT: 0.1}),
    "HTML as a number": put("trained", "settings", SCRIPT),
    "HTML as epochs trained": put("trained", "epochs", SCRIPT),
    "HTML as a difference": lambda d: d["references"]["none"].update(difference=SCRIPT),
    "a knob's value": put("recommended", {"weight_decay": -1.0}),
    "a path as a checkpoint": put("checkpoints", {"test": "../../elsewhere", "confirmation": "confirmation-1"}),
    "a null byte in the data's path": lambda d: d["plan"]["reading"].update(source="rows\0.csv"),
    "another argument of load": lambda d: d["plan"]["reading"].update(progress=True),
    "an interval of three": put("validation", "interval", [1.0, 2.0, 3.0]),
    "a number that is none": lambda d: d["validation"].update(mean=float("nan")),
    "no sentences": put("sentences", []),
    "settings that are numbers": put("equivalent", [3]),
    "test without its recommended row": drop("test", "recommended"),
    "a test row without a metric": drop("test", "none", "mse"),
    "the recommended test row without metrics": put("test", "recommended", {}),
    "a test row against itself": lambda d: d["test"]["recommended"].update(against=d["test"]["default"]["against"]),
    "a test row without its metric": lambda d: d["test"]["recommended"].update(mse={"interval": None}),
    "900,000 units in each layer": put(
        "plan", "model", "MLP(hidden=(900000, 900000), dropout=(0.1, 0.1), activation='relu', scaling=False)"
    ),
    "a trillion units": put("plan", "model", "MLP(hidden=(1000000000000,), dropout=(0.1,))"),
    "an expression as a network": put("plan", "model", "__import__('os').system('touch hacked')"),
    "a nested expression": put("plan", "model", "(" * 3000 + ")" * 3000),
    "an unknown activation": put("plan", "model", "MLP(hidden=(8,), dropout=(0.2,), activation='eval')"),
}


def read_report(folder):
    study = load_study(folder)
    return study.verdict, study.frame(), study.results.rungs()


def refused(study, *, report=False):
    """Make sure that reading the folder is refused in one line, and that nothing was run; return the line."""
    for read_it in (lambda: load_study(study).winner(), lambda: read_report(study))[: 1 + report]:
        with pytest.raises(InputError) as caught:
            read_it()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 900
    assert not (study.parent / "hacked").exists()
    return str(caught.value)


@pytest.mark.parametrize("name", ["an empty object", "code as length", "HTML as a knob"])
def test_every_command_refuses_in_one_line(run, study, name):
    edited(study / "study.json", STUDY[name])
    line = refused(study, report=True)
    for command in ("export", "report", "predict", "trust"):
        code, out, err = run(command, study, *["rows.csv"] * (command in ("predict", "trust")))
        assert (code, out, err) == (2, "", f"dampen: {line}\n")
    assert not (study / "export").exists()
    with pytest.raises(InputError, match=r"study\.json is damaged"):
        dampen.tune(network(), read(study.parent / "rows.csv"), SPACE, out=study, resume=True, **SMALL)
    assert not list(study.rglob(".*"))


@pytest.mark.parametrize("change", STUDY.values(), ids=STUDY)
def test_study_json(study, change):
    edited(study / "study.json", change)
    name = next(name for name, one in STUDY.items() if one is change)
    of_networks = name.startswith(("900,000", "a trillion", "an expression", "a nested", "an unknown"))
    refused(study, report=not of_networks)  # a report needs no network


@pytest.mark.parametrize("text", ["", "{", "null", '"' + "a" * 100, NESTED, '{"plan": ' + NESTED + "}", "\ud800"])
def test_study_json_that_is_no_document(study, text):
    (study / "study.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "study.json is damaged" in refused(study, report=True)


SEARCH = {
    "an object": lambda d: {},
    "numbers": lambda d: [3],
    "HTML as a run": put(0, "run", SCRIPT),
    "costs of other lengths": put(0, "costs", []),
    "a knob that does not exist": put(0, "settings", 0, {SCRIPT: 1.0}),
    "epochs": put(0, "epochs", 10**12),
    "texts as the metric": put(0, "mse", [SCRIPT] * 4),
    "no metric": drop(0, "mse"),
}


def test_a_search_that_is_gone_is_no_comparison(study):
    (study / "search.json").unlink()
    with pytest.raises(InputError, match=r"search.json is missing: put it back, or run the study again"):
        load_study(study).importance()


@pytest.mark.parametrize("change", SEARCH.values(), ids=SEARCH)
def test_search_json(study, change):
    edited(study / "search.json", change)
    with pytest.raises(InputError, match=r"search\.json is damaged"):
        read_report(study)


def test_a_search_of_other_settings_is_not_gone_on_with(study):
    edited(study / "search.json", put(0, "settings", 0, {"weight_decay": 0.5}))
    with pytest.raises(InputError, match=r"search\.json is damaged: its search-1-1 is of another search"):
        dampen.tune(network(), read(study.parent / "rows.csv"), SPACE, out=study, resume=True, **SMALL)


PROGRESS = {
    ("plan.json", "{}"): "another version of dampen",
    ("plan.json", "[]"): "plan.json is damaged",
    ("plan.json", '{"format": "2"}'): "plan.json is damaged: format",
    ("plan.json", NESTED): "plan.json is damaged",
    ("time.json", '{"seconds": "x"}'): "time.json is damaged: seconds",
    ("time.json", "[]"): "time.json is damaged",
    ("study.json", "{}"): "study.json is damaged",
}


@pytest.mark.parametrize(("file", "text"), PROGRESS)
def test_progress_files_when_a_study_is_resumed(study, file, text):
    (study / file).write_text(text)
    with pytest.raises(InputError, match=PROGRESS[file, text]) as caught:
        dampen.tune(network(), read(study.parent / "rows.csv"), SPACE, out=study, resume=True, **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[]", '{"settings": 1e9, "seeds": 3}', '{"settings": "4"}', NESTED])
def test_budget_json(tmp_path, text):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "budget.json").write_text(text)
    with pytest.raises(InputError, match=r"budget\.json is damaged"):
        dampen.tune(network(), read(tmp_path / "rows.csv"), SPACE, out=tmp_path / "study", budget=100.0)


TABLE = {
    "an empty object": lambda d: {},
    "a list": lambda d: [],
    "outputs": put("outputs", 10**12),
    "no columns": lambda d: d["columns"].update(used=[]),
    "a kind": lambda d: d["columns"]["used"][0].update(kind="code"),
    "own": lambda d: d["columns"]["used"][1].update(own=10**9),
    "unit": lambda d: d["columns"]["used"][0].update(unit=0.0),
    "parts of a date": lambda d: d["columns"]["used"][2].update(parts=["century"]),
    "levels that are numbers": lambda d: d["columns"]["used"][1].update(levels=[1, 2, 3]),
    "centre": put("centre", [0.0]),
    "scale": put("scale", ["x"] * 4),
    "seen": put("seen", {}),
    "a column's number": lambda d: d["means"].update({"x": []}),
    "classes for a regression": put("classes", ["a", "b"]),
    "a column more": lambda d: d["columns"]["used"].append(d["columns"]["used"][0]),
}


@pytest.mark.parametrize("change", TABLE.values(), ids=TABLE)
def test_preprocessing_json(study, change):
    edited(study / "preprocessing.json", change)
    refused(study)
    document = json.loads((study / "preprocessing.json").read_text())
    if "version" in document and len(document["columns"]["used"]) < 5:
        with pytest.raises(InputError, match="the preprocessing is damaged"):
            dampen.data.Preprocessing.from_document(document)


def tensor(name, value):
    return lambda held: held.__setitem__(name, value(held[name]))


ROWS = {
    "a digest of other contents": (put("sets", 1), None, False),
    "sets": (put("sets", 10**12), None, True),
    "sets that are not there": (put("sets", 7), None, True),
    "classes for a regression": (put("description", "classes", ["a", "b"]), None, True),
    "outputs": (put("description", "outputs", 10**9), None, True),
    "inputs": (put("description", "inputs", [900_000]), None, True),
    "rows": (put("description", "rows", -1), None, True),
    "no description": (drop("description"), None, True),
    "targets that are not numbers": (lambda d: None, tensor("targets/0", lambda t: t * torch.nan), True),
    "targets of another length": (lambda d: None, tensor("targets/0", lambda t: t[:1]), True),
    "targets of another type": (lambda d: None, tensor("targets/0", lambda t: t.long()), True),
    "inputs that are not numbers": (lambda d: None, tensor("features/0", lambda t: t * torch.inf), True),
    "inputs of another type": (lambda d: None, tensor("features/0", lambda t: t.to(torch.complex64)), True),
    "no rows": (lambda d: None, lambda h: h.update({n: h[n][:0] for n in list(h)}), True),
}


@pytest.mark.parametrize(("change", "tensors", "digest"), ROWS.values(), ids=ROWS)
def test_calibration_rows(study, change, tensors, digest):
    with_header(study / "calibration.safetensors", change, tensors, digest)
    refused(study)


MEMBERS = {
    "no settings": (put("settings", []), None),
    "a knob": (lambda d: d["settings"][0].update({"self": 1.0}), None),
    "seeds": (put("seeds", [-1, 0]), None),
    "more seeds than tensors": (put("seeds", list(range(5000))), None),
    "places": (put("places", [[[0, 10**12], [0, 1]]]), None),
    "a member in two chunks": (lambda d: d["places"].append(d["places"][0]), None),
    "no places": (put("places", []), None),
    "a row": (put("row", [[900_000_000], 900_000]), None),
    "an endless row": (put("row", [[2**31] * 8, 1]), None),
    "code as a row": (put("row", CODE), None),
    "epochs": (put("epochs", ["1", "2"]), None),
    "chunk": (put("chunk", -3), None),
    "a list": (lambda d: [], None),
    "counts": (lambda d: None, tensor("members/epoch", lambda t: t - 10**9)),
    "counts of another shape": (lambda d: None, tensor("members/epoch", lambda t: t[:1])),
    "counts of another type": (lambda d: None, tensor("members/batch", lambda t: t.float())),
    "weights of another shape": (lambda d: None, tensor("state/1.weight", lambda t: t[..., :3].contiguous())),
    "an optimizer's numbers": (lambda d: None, tensor("exp_avg/1.weight", lambda t: t[..., :3].contiguous())),
    "no weights": (lambda d: None, drop("state/1.weight")),
    "not all of an optimizer's numbers": (lambda d: None, drop("exp_avg/1.bias")),
}


@pytest.mark.parametrize(("change", "tensors"), MEMBERS.values(), ids=MEMBERS)
def test_the_checkpoint(study, change, tensors):
    name = json.loads((study / "study.json").read_text())["checkpoints"]["test"]
    with_header(study / "checkpoints" / name / "population.safetensors", change, tensors)
    refused(study)


def test_numbers_that_would_take_terabytes_take_none(study):
    """In a process that may take 6 GiB of addresses."""
    model = "MLP(hidden=(900000, 900000), dropout=(0.1, 0.1), activation='relu', scaling=False)"
    edited(study / "study.json", put("plan", "model", model))
    program = "from dampen.study import load_study\nload_study('study').model()"

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=study.parent, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert done.returncode == 1
    assert "InputError: study/checkpoints/" in done.stderr
    assert "is of another network" in done.stderr


def test_texts_of_a_study_are_texts_of_its_report(run, study):
    def change(document):
        for name in ("data", "metric"):
            assert isinstance(document[name], str)
        document["data"] = document["method"] = document["plan"]["model"] = document["plan"]["space"]["dropout"] = (
            SCRIPT
        )
        document["sentences"] = [SCRIPT] * 3
        document["notes"] = [SCRIPT]
        document["references"][SCRIPT] = document["references"]["default"]
        document["test"][SCRIPT] = document["test"]["default"]
        document["diagnosis"]["leaks"]["identifiers"] = [SCRIPT]
        document["plan"]["versions"][SCRIPT] = SCRIPT

    edited(study / "study.json", change)
    code, _, err = run("report", study)
    assert (code, err) == (0, "")
    page = (study / "report.html").read_text()
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;document.title") >= 8
    assert "\\u003cscript\\u003edocument" not in page  # nor to plotly, which reads tags


def test_curves_of_a_stranger(run, study):
    import pandas as pd

    frame = pd.read_parquet(study / "curves.parquet")
    for change in (
        lambda f: f.drop(columns="epoch"),
        lambda f: f.assign(epoch="three"),
        lambda f: f.assign(validation_loss=SCRIPT),
        lambda f: pd.concat([f, f]),
        lambda f: f.assign(seed=float("nan")),
    ):
        change(frame).to_parquet(study / "curves.parquet", index=False)
        code, out, err = run("report", study)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "curves.parquet is damaged" in err
    (study / "curves.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    code, out, err = run("report", study)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("study.json", _documents.Finished), ("plan.json", _documents.Plan), ("time.json", _documents.Time)],
)
def test_the_schema_knows_every_field_that_a_study_writes(study, name, kind):
    from dampen._schema import plain

    assert plain(Folder(study).read(name, kind)) == json.loads((study / name).read_text())


def test_the_schema_knows_every_field_of_the_search(study):
    assert _documents.progress(Folder(study), "mse") == json.loads((study / "search.json").read_text())


def test_a_folder_that_nobody_changed_opens_and_gives_the_same_files(run, made, study, tmp_path):
    assert run("export", study, "--out", "one")[0] == 0
    assert run("export", made / "study", "--out", "two")[0] == 0
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    for folder in (study, made / "study"):
        assert run("report", folder)[0] == 0
    assert (study / "report.html").read_bytes() == (made / "study" / "report.html").read_bytes()
    (made / "study" / "report.html").unlink()
