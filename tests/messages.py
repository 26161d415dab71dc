"""The messages in the source, as the catalogues have them; run, it adds those that a catalogue lacks.

`python tests/messages.py` adds new messages to `src/dampen/locale/zh.po` without a twin, and takes away those that are
gone. A message is what a constant or an f-string reads like, its values as numbered places; where an expression chooses
between two texts, each of them is a message of its own.
"""

import ast
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import jinja2

SOURCE = Path(__file__).parents[1] / "src" / "dampen"
CATALOGUE = SOURCE / "locale" / "zh.po"

SENTENCES = (  # all their texts are shown
    "study/_verdict_text.py",
    "study/_on_test_rows.py",
    "study/_plan_differences.py",
    "study/_setting_text.py",
    "doctor/_registry.py",
    "doctor/_report.py",
)
SPOKEN = (  # rooms and files: all their texts of several words are
    *("data/", "doctor/", "estimators/", "engine/capture/_failures.py", "engine/capture/_outputs.py"),
    *(f"engine/_{name}.py" for name in ("checkpoint", "explain", "insert_dropout", "losses", "outputs", "seeds_alike")),
    *("engine/capture/_trace.py", "engine/knobs/_base.py"),
    *(f"engine/execution/_{name}.py" for name in ("fused", "not_fusable", "select")),
    *("integrations/", "report/_curves.py", "report/_forest.py", "report/_lengths.py", "report/_map.py"),
    *("report/_predictions.py", "report/_study.py", "report/_trust.py", "cli/_dropout.py", "cli/_weight_decay.py"),
    *("cli/_predict.py", "cli/_runs.py", "uncertainty/_summaries.py", "uncertainty/_predict.py"),
    *(
        "uncertainty/_sites.py",
        "study/_kept.py",
        "study/_calibrate.py",
        "study/_calibrated.py",
        "study/_calibration_rows.py",
    ),
    *(
        "study/_checks.py",
        "study/_choose_loss.py",
        "study/_protocol.py",
        "study/_simple_models.py",
        "study/_distilled.py",
        "study/_embedded.py",
    ),
    *(f"experiments/_{name}.py" for name in ("answer", "decay", "interaction", "length", "noises", "penalty", "rates")),
    *("study/_simple_models.py", "experiments/_registry.py", "experiments/_variance.py"),
    *("experiments/_dropout_picture.py", "experiments/_weight_decay_picture.py"),
    *("experiments/_scaling.py", "search/_importance.py"),
)
SPOKEN_FUNCTIONS = ("_among", "forgetting", "epoch_line", "_without_targets", "_remedy", "_rows_text", "summary")
SHOWN = {  # functions whose arguments are shown
    *("InputError", "_FetchError", "OutputsWarning", "DataWarning", "NotFusedWarning", "NotSampled", "warn"),
    *("shown", "say", "option", "flag", "in_data", "in_search", "in_training", "in_output", "Option", "Argument"),
    *("Symptom",),
}
_NO_TEXT = re.compile(
    r"^--[\w-]+(/--[\w-]+)?$|\w\[|\| None|^[\w-]+\.(png|html)$|<br>|^upper center$|^dampen: \{0\}$|^[A-Z:,=]+$|"
    r"^(dampen-[a-z]+|white-space: [a-z-]+|[a-z]+\.[a-z]+\.[a-z]+)$"  # of the page's elements
    r"|\\[a-zA-Z(]|^<\w|^[A-Z]\w+\(|\w \| (None|str|Table)|^The least populated"
    r"|^(it|lines?|columns?|classes) \{0\}$|^\{0\} (other|count|code|mean target.*)$|^Ankle boot$|^system volume"
)
_PLACE = re.compile(r"\{\d+\}")
_MOST = 12  # variants of a message: where there are more, its choices become messages of their own
_OF_NAMES = ("get", "replace", "startswith", "removeprefix", "strftime", "split", "partition", "encode")
_LETTERS = re.compile(r"[^\W\d_]{2}")
EXTRA = {  # of parts that are put together from other texts
    "{0} {1} ({2})": "study/_verdict_text.py",
    "{0} to {1}": "study/_verdict_text.py",
    "{0} or less": "search/_space.py",
    ".": "report/_study.py",
    **dict.fromkeys(["recommended", "ensemble", "off", "constant", "linear", "boosting"], "cli/_tune.py"),
    **dict.fromkeys(["data", "notes", "network", "space", "search", "evaluation", "folder"], "report/_study.py"),
    **dict.fromkeys(["regularisation", "gain", "took", "agrees", "contradicts"], "cli/_runs.py"),
    **dict.fromkeys(["training", "validation", "entropy", "length"], "report/_curves.py"),
    **dict.fromkeys(["changed", "found", "lengths", "versions", "serious", "warning", "warnings"], "cli/_runs.py"),
    **dict.fromkeys(["study", "on test rows", "comparison", "helps"], "cli/_runs.py"),
    **dict.fromkeys(["finished", "unfinished", "running", "damaged"], "cli/_runs.py"),
    **dict.fromkeys(["calibrating", "predicting"], "cli/_predict.py"),
    **dict.fromkeys(["standard deviation", "mutual information", "max probability"], "cli/_predict.py"),
    **dict.fromkeys(["search", "confirmation", "test"], "cli/_tune.py"),
    **dict.fromkeys(["{0} s", "{0} h", "{0} min"], "cli/_runs.py"),
    **dict.fromkeys(["{0} serious", "{0} warning", "{0} warnings", "{0} note", "{0} notes"], "doctor/_report.py"),
    **dict.fromkeys(["the number of steps", "a batch", "an optimizer"], "doctor/_report.py"),
    **dict.fromkeys([f"{way} than dropout: {{0}}" for way in ("better", "worse", "Better", "Worse")], "experiments"),
    **dict.fromkeys([f"{way} variance with dropout: {{0}}" for way in ("smaller", "larger")], "experiments"),
    **dict.fromkeys(["smaller", "larger", "both", "neither", "interaction", "strength", "|weight|"], "experiments"),
    **dict.fromkeys(["{0} {1} (95 % interval {2} to {3})", "neither {0}"], "experiments"),
    **dict.fromkeys(["gaussian_dropout", "input_dropout", "input_noise"], "experiments"),
    **dict.fromkeys(["members", "pixels"], "_checks.py"),
    "{0}: dropout changes it by {1} (95 % interval {2} to {3} over {4} seeds)": "cli/_dropout.py",
    **dict.fromkeys(["as it is, error {0}", "after calibration, error {0}"], "report/_predictions.py"),
    "No such option: {0} (Possible options: {1})": "cli/_main.py",
    "{0}, {1} bits,": "data/images/_from_folder.py",
    "{0} can't be fused: {1}; members train one after the other, with the same results": "engine/_population.py",
    **dict.fromkeys(["additive", "reinforcing", "diminishing", "cancelling", "Hidden layer {0}"], "experiments"),
    **dict.fromkeys(["lowest test loss: λ = {0}", "chosen by validation: λ = {0}"], "experiments"),
    **dict.fromkeys(["dropout of units {0}", "dropout of weights (DropConnect) {0}"], "experiments"),
    **dict.fromkeys(["Gaussian dropout {0}", "dropout of inputs {0}", "normal noise on inputs {0}"], "experiments"),
    **dict.fromkeys(["a number", "a whole number", "{0} must be a number, got {1}"], "play/_lesson.py"),
    **dict.fromkeys(["first", "usual", "planned", "longest", "cross-validation", "held-out rows"], "report/_study.py"),
    "; {0} s": "study/_runner.py",
    **dict.fromkeys(["days", "time of the year", "time of the week", "time of the day"], "data/tables/_columns.py"),
    "{0} with dropout inserted": "engine/_insert_dropout.py",
    "Dropout inserted after {0}.": "engine/_insert_dropout.py",
    "Dropout inserted after {0}; not after the activations that are called as functions in {1}.": (
        "engine/_insert_dropout.py"
    ),
    "No such command '{0}'. Did you mean '{1}'?": "cli/_main.py",
    "missing a required argument: '{0}'": "cli/_import_string.py",
    **dict.fromkeys(["makes a network", "returns a model"], "cli/_import_string.py"),
    "rows of {0} may have taken part in training; their summary may be too good: {1}": "cli/_predict_setup.py",
    "the {0} test rows of {1} are predicted; --rows all takes every one": "cli/_predict_setup.py",
    **{
        f"Data('{{0}}': {task}, {{{n}}} training, {{{n + 1}}} validation and {{{n + 2}}} test rows, "
        f"inputs {{{n + 3}}}, outputs {{{n + 4}}})": "cli/_data.py"
        for task, n in (
            ("classification", 1),
            ("regression", 1),
            ("classification of '{1}'", 2),
            ("regression of '{1}'", 2),
        )
    },
    "No setting is significantly better than {0}. The best estimate is {1}: a gain of {2} ({3} to {4}) in {5} "
    "over {6}, not significant.": "study/_verdict_text.py",
    "not significant": "study/_verdict_text.py",
    **dict.fromkeys(["Examples:", "Options", "Arguments", "Commands", "Usage: ", "[default: {}]"], "cli/_help.py"),
    **dict.fromkeys(["knob", "enters", "what it does", "values", "source"], "cli/_knobs.py"),
    **dict.fromkeys(["Data", "Search", "Training", "Output", "Page", "A study", "Experiments"], "cli/_help.py"),
    **dict.fromkeys(["Your own training", "Show this message and exit."], "cli/_help.py"),
    **dict.fromkeys(["Missing argument '{0}'.", "Missing option '{0}'.", "No such option: {0}"], "cli/_main.py"),
    **dict.fromkeys(["No such command '{0}'.", "Got unexpected extra argument ({0})"], "cli/_main.py"),
    **dict.fromkeys(["Option '{0}' requires an argument.", "Invalid value for '{0}': {1}"], "cli/_main.py"),
    "over {0}: {1}": "study/_verdict_text.py",
    "{0} or larger": "engine/knobs/_base.py",
    "a finite number, {0} or larger": "engine/knobs/_base.py",
    "{0} with {1}": "study/_verdict_text.py",
    "learning rate {0}": "study/_verdict_text.py",
}


def messages() -> dict[str, list[str]]:
    """Return the messages of the source, and the files where each stands."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith(("play/_text/", "_language.py")):
            continue
        for message in _of_file(ast.parse(path.read_text(encoding="utf-8")), name):
            if name not in found.setdefault(message, []):
                found[message].append(name)
    for path in sorted((SOURCE / "report" / "templates").glob("*.html")):
        environment = jinja2.Environment(extensions=["jinja2.ext.i18n"])
        for _, _, message in environment.extract_translations(path.read_text(encoding="utf-8")):
            found.setdefault(str(message), []).append(path.relative_to(SOURCE).as_posix())
    for message, place in EXTRA.items():
        found.setdefault(message, []).append(place)
    from dampen.cli._option_names import as_options
    from dampen.engine.knobs import KNOBS
    from dampen.metrics import METRICS

    for message in list(found):
        found.setdefault(as_options(message), found[message])  # as the command line spells it

    for metric in METRICS.values():
        found.setdefault(metric.name, []).append("metrics.py")

    for knob in KNOBS.values():
        name = knob.name.replace("_", " ")
        for message in (name, f"{name} {{0}}", knob.about, knob.enters, knob.values, knob.source):
            places = found.setdefault(message, [])
            places += ["engine/knobs"] * ("engine/knobs" not in places)
    return {m: places for m, places in found.items() if m in EXTRA or _is_text(m)}


def _is_text(message: str) -> bool:
    """Return whether a text has words of a sentence: it is no option, type, file or mark-up."""
    return bool(_LETTERS.search(_PLACE.sub("", message)) and not _NO_TEXT.search(message))


def _of_file(tree: ast.Module, name: str) -> Iterator[str]:
    whole = name in SENTENCES
    spoken = name.startswith(SPOKEN)
    docstrings = {id(text) for text in _docstrings(tree)}
    if name.startswith("cli/"):
        yield from _helps(tree)

    def walk(node: ast.AST, taken: bool | str) -> Iterator[str]:
        if isinstance(node, ast.Call) and _called(node) in SHOWN:
            taken = True
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and _is_notes(node):
            taken = True
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("append", "extend")
        ):
            taken = taken or "note" in ast.unparse(node.func.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _OF_NAMES:
            yield from walk(node.func.value, taken)  # its arguments are names or marks
            return
        if isinstance(node, ast.Call) and _called(node) == "getattr":
            return  # its texts are names, or stand where there is none
        if isinstance(node, ast.FunctionDef) and node.name in SPOKEN_FUNCTIONS:
            taken = "spoken"
        if isinstance(node, ast.Subscript):
            yield from walk(node.value, taken)
            yield from walk(node.slice, False)
            return
        if isinstance(node, ast.Compare):
            taken = False
        if isinstance(node, ast.Dict):
            for value in node.values:
                yield from walk(value, taken)
            return
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call) and id(node) not in docstrings:
            found = list(_texts(node)) if taken else []
            if found:
                known = taken is True
                yield from (text for text, _ in found if known or " " in text.strip())
                for inner in {id(n): n for _, inners in found for n in inners}.values():
                    yield from walk(inner, taken)
                return
        for child in ast.iter_child_nodes(node):
            yield from walk(child, taken)

    yield from walk(tree, True if whole else "spoken" if spoken else False)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _is_notes(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any("note" in ast.unparse(target).lower() or "printed" in ast.unparse(target) for target in targets)


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def _helps(tree: ast.Module) -> Iterator[str]:
    """Return the paragraphs of the docstrings that help shows."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and "_options.Json" in ast.unparse(node):
            yield from (" ".join(part.split()) for part in (ast.get_docstring(node) or "").split("\n\n"))


def _texts(node: ast.expr) -> Iterator[tuple[str, list[ast.expr]]]:
    """Return the messages that an expression can read like, with the expressions in their places."""
    alternatives = _alternatives(node)
    if alternatives is None or len(alternatives) > _MOST:
        return
    for pieces in alternatives:
        text, inner, n = "", list[ast.expr](), 0
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
            else:
                text = text.removesuffix(", ") if text.endswith("}, ") else text  # a list of places is one
                text += "" if text.endswith("}") else f"{{{n}}}"
                n = len(_PLACE.findall(text))
                inner.append(piece)
        if inner or text:
            yield text.strip("\n"), inner  # lines are shown one by one


def _alternatives(node: ast.expr) -> list[list[str | ast.expr]] | None:
    """Return the ways in which an expression is made of texts and values; None where it is a value itself."""
    if isinstance(node, ast.Constant):
        return [[node.value]] if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = [_of_part(value) for value in node.values]
        return _product(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _alternatives(node.left), _alternatives(node.right)
        if left is None and right is None:
            return None
        return _product([left or [[node.left]], right or [[node.right]]])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):  # "s" * (n != 1)
        text = _alternatives(node.left)
        return None if text is None or not isinstance(node.left, ast.Constant) else [*text, [""]]
    if isinstance(node, ast.IfExp):
        ways = [_alternatives(node.body), _alternatives(node.orelse)]
        return None if None in ways else [way for some in ways for way in some or ()]
    if isinstance(node, ast.Call) and _called(node) == "counted":
        noun = _alternatives(node.args[1])
        return None if noun is None else [[node.args[0], " ", *way, s] for way in noun for s in ("", "s")]
    return None


def _of_part(value: ast.expr) -> list[list[str | ast.expr]]:
    if isinstance(value, ast.Constant):
        return [[str(value.value)]]
    assert isinstance(value, ast.FormattedValue)
    inner = _alternatives(value.value) if value.conversion == -1 and value.format_spec is None else None
    return inner if inner is not None and len(inner) <= 4 else [[value.value]]


def _product(parts: list[list[list[str | ast.expr]]]) -> list[list[str | ast.expr]]:
    return [[piece for way in ways for piece in way] for ways in product(*parts)]


def write(entries: dict[str, str], places: dict[str, list[str]]) -> str:
    """Return a catalogue in gettext's format."""
    head = 'msgid ""\nmsgstr ""\n"Language: zh\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    blocks = [head]
    for message in sorted(places, key=lambda message: (places[message][0], list(places).index(message))):
        where = " ".join(places[message])
        blocks.append(f"#: {where}\nmsgid {_quoted(message)}\nmsgstr {_quoted(entries.get(message, ''))}\n")
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


if __name__ == "__main__":
    from dampen._language import read

    held = read(CATALOGUE.read_text(encoding="utf-8")) if CATALOGUE.is_file() else {}
    found = messages()
    CATALOGUE.write_text(write(held, found), encoding="utf-8")
    print(f"{len(found)} messages, {sum(not held.get(message) for message in found)} without a twin", file=sys.stderr)
