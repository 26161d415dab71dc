"""The language of what is shown: English lines, and their twins in a catalogue.

Errors, warnings, notes and documents hold English lines, so that files and what programs read stay the same everywhere.
A line gets its twin where it is shown: at the command line, on a page, in `print`. The catalogue, a file of gettext,
has messages with numbered places, `no column '{0}'`, and a line is looked up by the message that it was made from. One
without a twin is shown as it is.

Places of a twin may say what stands there: `{0}` is shown unchanged, `{0:t}` is translated in turn, `{0:d}` is a
number, `{0:v}` a number, a word or what is in parentheses (a message is not meant where there is none).
"""

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

Twin = Callable[[str], str | None]
"""What returns the twin of a part of a line, or None."""

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""What each language is called in itself."""
_TAGS = {"en": "en", "zh": "zh-Hans"}
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set counts
_PLAIN = ("", "C", "POSIX")  # locales for which gettext asks no LANGUAGE
_PLACE = re.compile(r"\{(\d+)(?::([tdv]))?\}")
_NUMBER = re.compile(r"[-+−]?(?:\d[\d,.]*(?:e[-+]?\d+)?|inf|nan)(?: ?%)?")
_MEETING = re.compile(r"[\u4e00-\u9fff][A-Za-z0-9+-]|[A-Za-z0-9%][\u4e00-\u9fff]")
_STAND = {"d": _NUMBER.pattern, "v": r"\([^()]*\)|\S+"}
_WORD = re.compile(r"[^\W\d_]{2}")
_JOINTS = (("; ", "；"), (", ", "，"), (" and ", "和"), (" or ", "或"))  # of lists, the outermost first
_LONGEST = 8000  # letters of a line that is looked up: longer ones are no message of ours
_LETTERS_OF_A_LINE = 6
_MOST_PARTS = 10_000  # of lines, whose twins are remembered
_chosen: ContextVar[str | None] = ContextVar("language", default=None)


def language() -> str:
    """Return the language in which lines are shown: the one chosen, that of the environment, or English."""
    return _chosen.get() or of_environment(os.environ)


def of_environment(environment: Mapping[str, str]) -> str:
    """Return the language that an environment names; one that there is no catalogue for counts as English.

    That is DAMPEN_LANG; or else, as for gettext, the first of LANGUAGE's that there is, or without it the locale's.

    Example:
        >>> of_environment({"LANG": "zh_CN.UTF-8"}), of_environment({"LANG": "zh_CN.UTF-8", "DAMPEN_LANG": "en"})
        ('zh', 'en')
    """
    locale = next(filter(None, map(environment.get, _LOCALE)), "")
    preferred = "" if locale in _PLAIN else environment.get("LANGUAGE")
    asked = environment.get("DAMPEN_LANG") or preferred or locale
    names = (re.split("[-_.@]", name.lower())[0] for name in asked.split(":"))
    return next((name for name in names if name in LANGUAGES), "en")


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """Show lines in a language of `LANGUAGES` within the block."""
    before = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(before)


def choose(name: str) -> None:
    """Show lines in a language of `LANGUAGES` from now on."""
    _chosen.set(name)


def tag() -> str:
    """Return what HTML calls the language."""
    return _TAGS[language()]


def shown(line: str) -> str:
    """Return a line in the language that is shown; one that the catalogue lacks as it is.

    Example:
        >>> with speaking("zh"):
        ...     shown("--seed must be 0 or larger, got -1")
        '--seed 必须为 0 或更大，实际为 -1'
    """
    name = language()
    if name == "en" or not line:
        return line
    with suppress(RecursionError):  # hundreds of messages in a row, or in a list, are a stranger's line, none of ours
        return catalogue(name).twin(line) or line
    return line


def part(text: str) -> str:
    """Return a part of a line, a setting for one, in the language that is shown; words without a twin as they are."""
    name = language()
    if name == "en":
        return text
    with suppress(RecursionError):
        return catalogue(name).part(text)
    return text


@dataclass(frozen=True)
class _Message:
    """A message with places, and its twin.

    Args:
        literals: what stands before, between and after its places.
        kinds: of its places in the twin, by number: "", `t` or `d`.
        twin: as the catalogue has it.
    """

    literals: tuple[str, ...]
    kinds: Mapping[int, str]
    twin: str

    def values(self, text: str, whole: bool) -> tuple[list[str], int] | None:
        """Return what stands in its places, each as short as can be, and where the message ends; None: another one.

        Args:
            text: it begins with the message.
            whole: whether nothing may follow it.
        """
        first, *others = self.literals
        if not text.startswith(first):
            return None
        at, values = len(first), []
        for i, literal in enumerate(others):
            last = whole and i == len(others) - 1
            found = (len(text) - len(literal) if text.endswith(literal) else -1) if last else text.find(literal, at)
            if found < at:
                return None
            values.append(text[at:found])
            at = found + len(literal)
        if not set(self.kinds.values()).isdisjoint(_STAND):  # where a number must, another place may have to be longer
            match = self._expression.fullmatch(text) if whole else self._expression.match(text)
            if match is None:
                return None
            values, at = list(match.groups()), match.end()
        return None if any(map(_closes, values)) else (values, at)

    @cached_property
    def has_words(self) -> bool:
        """Whether it has words enough to be a line: it begins with one, or they are more than a joint of places."""
        first = self.literals[0].strip()
        return first[:1].isalpha() or sum(map(str.isalpha, "".join(self.literals))) >= _LETTERS_OF_A_LINE

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        first, *others = map(re.escape, self.literals)
        places = (f"({_STAND.get(self.kinds.get(i, ''), '.*?')})" for i in range(len(others)))
        return re.compile(first + "".join(map("".join, zip(places, others, strict=True))), re.DOTALL)


class Catalogue:
    """The messages of a language.

    Args:
        entries: the twin of each message; an empty one is none.
    """

    def __init__(self, entries: Mapping[str, str]):
        self.entries = {message: twin for message, twin in entries.items() if twin}
        self._messages = sorted(
            (_message(message, twin) for message, twin in self.entries.items() if _PLACE.search(message)),
            # the most particular first: what begins with its own words, then what has most of them
            key=lambda message: (not message.literals[0], -sum(map(len, message.literals))),
        )
        self._parts: dict[str, str | None] = {}

    def twin(self, line: str) -> str | None:
        """Return a line's twin; None without one.

        A line is a message, or several in a row, or a message after the name of what it is about and a colon.
        """
        if len(line) > _LONGEST:
            return None
        found = (
            self._exact(line)
            or self._of_message(line, self._all_of, True)
            or self._of_message(line, self.part, True)
            or self._in_a_row(line, self.part)
        )
        if found is None and ": " in line:
            about, _, rest = line.partition(": ")
            twin = self.twin(rest)
            found = None if twin is None else f"{self.part(about)}：{twin}"
        return found

    def part(self, text: str) -> str:
        """Return the twin of a part of a line: a message, several in a row, or a list; what is none of it stays."""
        return self._all_of(text) or self._some_of(text)

    def _all_of(self, text: str) -> str | None:
        """Return a part's twin if each of its words has one."""
        if text not in self._parts:
            if len(self._parts) > _MOST_PARTS:
                self._parts.clear()
            self._parts[text] = self._whole(text) or self._in_a_row(text, self._all_of)
        return self._parts[text]

    def _whole(self, text: str) -> str | None:
        """Return the twin of a part that is one message or a list of messages."""
        return (
            self._exact(text)
            or (text if not _WORD.search(_NUMBER.sub("", text)) else None)
            or self._list(text, _JOINTS[:2], self._whole)
            or self._of_message(text, self._all_of)
            or self._list(text, _JOINTS[2:], self._whole)
        )

    def _exact(self, text: str) -> str | None:
        """Return the twin of a message without places, which may begin a sentence."""
        return self.entries.get(text) or self.entries.get(text[:1].lower() + text[1:])

    def _some_of(self, text: str) -> str:
        """Return a part with the twins of those of its words that have one."""
        return self._of_message(text, self.part) or self._list(text, _JOINTS, self.part) or text

    def _list(self, text: str, joints: Sequence[tuple[str, str]], twin: Twin) -> str | None:
        for joint, of_twin in joints:
            pieces = _split(text, joint)
            if len(pieces) > 1:
                twins = [twin(piece) for piece in pieces]
                if None not in twins and twins != pieces:
                    return of_twin.join(map(str, twins))
        return None

    def _of_message(self, text: str, twin: Twin, whole_line: bool = False) -> str | None:
        for message in self._messages:
            if message.has_words or not whole_line:
                found = message.values(text, whole=True)
                filled = None if found is None else _filled(message, found[0], twin)
                if filled is not None:
                    return filled
        return None

    def _in_a_row(self, text: str, twin: Twin) -> str | None:
        """Return the twins of messages that follow each other; each but the last ends in words, not in a place."""
        starts = [message for message in self.entries if not _PLACE.search(message) and text.startswith(message)]
        for start in sorted(starts, key=len, reverse=True):
            rest = self._rest(text[len(start) :], twin)
            if rest is not None:
                return _beside(self.entries[start], rest)
        for message in self._messages:
            found = message.values(text, whole=False) if message.literals[-1] and message.has_words else None
            rest = None if found is None else self._rest(text[found[1] :], twin)
            filled = None if found is None or rest is None else _filled(message, found[0], twin)
            if filled is not None:
                return _beside(filled, str(rest))
        return None

    def _rest(self, text: str, twin: Twin) -> str | None:
        """Return the twins of what follows a message, after a stop if there is one."""
        if not text:
            return ""
        found = self.entries.get(text) or self._of_message(text, twin, True) or self._in_a_row(text, twin)
        for stop, of_twin in _STOPS.items():
            if found is None and text.startswith(stop):
                rest = self._rest(text[len(stop) :], twin)
                found = None if rest is None else _beside(of_twin, rest)
        return found


def _filled(message: "_Message", values: list[str], twin: Twin) -> str | None:
    """Return a message's twin with the values in its places; None where one that is translated has no twin."""
    kinds = message.kinds
    filled = {str(i): twin(value) if value and kinds.get(i) == "t" else value for i, value in enumerate(values)}
    if None in filled.values():
        return None
    text, at = "", 0
    for match in _PLACE.finditer(message.twin):
        text = _beside(_beside(text, message.twin[at : match.start()]), str(filled[match[1]]))
        at = match.end()
    return _beside(text, message.twin[at:])


def _beside(one: str, other: str) -> str:
    """Put two texts side by side, with a space between Chinese characters and others, as Chinese is typeset."""
    return f"{one} {other}" if _MEETING.fullmatch(one[-1:] + other[:1]) else one + other


_STOPS = {". ": "。", "; ": "；", ", ": "，", ".": "。", " ": ""}


@cache
def catalogue(name: str) -> Catalogue:
    """Return the catalogue of a language; English needs none."""
    if name == "en":
        return Catalogue({})
    return Catalogue(read(files("dampen").joinpath("locale", f"{name}.po").read_text(encoding="utf-8")))


def read(text: str) -> dict[str, str]:
    r"""Return the messages and twins of a catalogue in gettext's format, without its head; other entries are left out.

    Example:
        >>> read('msgid "row"\nmsgstr ""\n"行"\n')
        {'row': '行'}
    """
    entries: dict[str, str] = {}
    parts: dict[str, str] = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if parts.get("msgid"):
                entries[parts["msgid"]] = parts.get("msgstr", "")
            parts = {}
            continue
        name, _, quoted = line.partition(" ") if not line.startswith('"') else (field, "", line)
        field = name
        parts[field] = parts.get(field, "") + ast.literal_eval(quoted)
    return entries


def _message(message: str, twin: str) -> _Message:
    literals = tuple(_PLACE.split(message)[::3])
    return _Message(literals, {int(number): kind for number, kind in _PLACE.findall(twin)}, twin)


def _closes(text: str) -> bool:
    """Return whether a parenthesis ends in a text that began before it, in the message or another one's place."""
    depth = 0
    for letter in text if ")" in text else "":
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return True
    return False


def _split(text: str, joint: str) -> list[str]:
    """Split a list at its joints, but not within parentheses or quotes."""
    pieces, depth, start, i = [], 0, 0, 0
    while i < len(text):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0 and text.startswith(joint, i):
            pieces.append(text[start:i])
            i = start = i + len(joint)
            continue
        i += 1
    return [*pieces, text[start:]]
