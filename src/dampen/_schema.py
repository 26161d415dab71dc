"""Documents from outside: read once, against their types, before anything is made of them.

A study's folder is not trusted. Every JSON text in it is decoded by `decode` into classes that name each
field's type and range; what has another type, is out of range, too long or nested too deeply is refused in one line,
and unknown fields are left out. What depends on sizes is checked against the tensors that are really there.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from dampen._io import shortened
from dampen.errors import InputError

LARGEST_FILE = 128 << 20  # bytes of a document: a table with millions of categories has less
if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Text = Annotated[str, Meta(max_length=100_000)]
Word = Annotated[str, Meta(min_length=1, max_length=1000)]
Place = Annotated[str, Meta(max_length=4096, pattern=r"\A[^\x00]*\Z")]  # of a file or folder
Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**53)]  # what a float can still count
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Epochs = Annotated[int, Meta(ge=1, le=10_000_000)]
Size = Annotated[int, Meta(ge=1, le=2**31)]  # of what is allocated: compared with what is there, too
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]  # a power of 10 above it is still a number
Share = Annotated[float, Meta(ge=0, le=1)]
Interval = Annotated[list[Real | None], Meta(min_length=2, max_length=2)]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[float, Meta(ge=-1e300, le=1e300)]
Setting = dict[Word, bool | Number | Annotated[str, Meta(max_length=1000)] | list[Number] | dict[Word, Number]]


def decode(text: bytes | str, kind: type[T], what: object) -> T:
    """Return a JSON text as a value of a type of msgspec: structs, dataclasses, annotated ranges.

    Args:
        text: to read.
        kind: what it must be.
        what: holds it, for the message.

    Raises:
        InputError: it is not JSON, or something else.

    Example:
        >>> decode('{"epochs": 3}', dict[str, Epochs], "plan.json")
        {'epochs': 3}
    """
    with damaged(what):
        return msgspec.json.decode(text, type=kind)


def converted(value: object, kind: type[T], what: object) -> T:
    """Return a value that JSON can hold as one of a type, as `decode` does.

    Raises:
        InputError: it is something else.
    """
    with damaged(what):
        return msgspec.convert(value, kind)


def call(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and arguments of a call as `repr` of a dataclass writes it; nothing is called.

    Raises:
        ValueError: it is no such text.

    Example:
        >>> call("SGD(momentum=0.9)")
        ('SGD', {'momentum': 0.9})
    """
    try:
        found = ast.parse(text, mode="eval").body
        if isinstance(found, ast.Call) and isinstance(found.func, ast.Name):
            return found.func.id, {word.arg: ast.literal_eval(word.value) for word in found.keywords if word.arg}
    except (SyntaxError, MemoryError, RecursionError):
        pass
    raise ValueError(f"{shortened(text)} is no call")


def read_file(file: Path, kind: type[T]) -> T | None:
    """Return the contents of a JSON file; None where there is no such file.

    Raises:
        InputError: it can't be read, or is not of its type.
    """
    text = read_bytes(file)
    return None if text is None else decode(text, kind, file)


def read_bytes(file: Path) -> bytes | None:
    """Return a document's bytes; None where there is no such file.

    Raises:
        InputError: it is no file, is too large, or can't be read.
    """
    try:
        if not file.is_file():
            if file.exists():
                raise InputError(f"{file} is no file: a document is expected there")
            return None
        if file.stat().st_size > LARGEST_FILE:
            raise InputError(f"{file} is damaged: no document of dampen's has {file.stat().st_size:,} bytes")
        return file.read_bytes()
    except OSError as e:
        raise InputError(f"{shortened(file)} can't be read: {e.strerror or e}") from e


def read_tensors(file: Path) -> "tuple[str, dict[str, Tensor]]":
    """Return the header of a safetensors file of dampen's, as a JSON text, and its tensors.

    The library lets no tensor be larger than the file.

    Raises:
        InputError: it can't be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as held:
            about = held.metadata() or {}
            if "dampen" not in about:
                raise InputError(f"{shortened(file)} is damaged: it is none of dampen's")
            return about["dampen"], {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"{shortened(file)} is damaged: {shortened((str(e) or type(e).__name__).splitlines()[0])}"
        ) from None


def plain(value: object) -> Any:
    """Return a decoded value as dictionaries, lists, texts and numbers."""
    return msgspec.json.decode(msgspec.json.encode(value))


@contextmanager
def damaged(what: object) -> Iterator[None]:
    """Turn what is wrong with a document into one line.

    Raises:
        InputError: something is.
    """
    try:
        yield
    except InputError as e:
        raise InputError(f"{shortened(what)} is damaged: {shortened(e)}") from None
    except RecursionError:
        raise InputError(f"{shortened(what)} is damaged: it is nested too deeply") from None
    except msgspec.ValidationError as e:
        raise InputError(f"{shortened(what)} is damaged: {_in_words(str(e))}") from None
    except TypeError as e:
        raise InputError(f"{shortened(what)} is damaged: {shortened(e)}") from None
    except (msgspec.MsgspecError, ValueError) as e:
        raise InputError(f"{shortened(what)} is damaged: it is not JSON ({shortened(e)})") from None


def check_lengths(lists: Sequence[Sequence[object]], names: str) -> None:
    """Make sure that lists belong together.

    Raises:
        ValueError: they have different lengths.
    """
    if len({len(values) for values in lists}) > 1:
        raise ValueError(f"{names} have different lengths")


def _in_words(message: str) -> str:
    """Return msgspec's message with the place in front: `plan.seed: expected `int`, got `str``."""
    match = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message, re.DOTALL)
    if not match:
        return shortened(message[:1].lower() + message[1:])
    return shortened(f"{match[2]}: {match[1][:1].lower()}{match[1][1:]}")
