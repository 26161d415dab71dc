"""Strategies that change valid files: bytes, numbers in headers, JSON documents."""

import copy
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NUMBERS = [
    0,
    1,
    -1,
    2,
    127,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    -(2**31),
    -(2**63),
]
WORDS = [
    *(
        "",
        "x",
        "x" * 5000,
        "3\nimport os",
        "__import__('os').abort()",
        "<script>alert(1)</script>",
        "../../../etc/passwd",
    ),
    *("/dev/zero", "=1+1", "\0", "\ud800", "nan", "1e999", "{{ 7 * 7 }}", "MLP(hidden=(900000, 900000))", "😀"),
]


def _deep(n: int) -> Any:
    found: Any = 1
    for _ in range(n):
        found = [found]
    return found


VALUES = [
    *(None, True, False, 0, -1, 1, 2, 0.5, 1e-308, 1e308, -1e308, 10**30, 2**31, 2**63, float("nan"), float("inf")),
    *(
        [],
        {},
        [[]],
        [None],
        [{}],
        {"": None},
        [1, "a", None],
        _deep(200),
        list(range(1000)),
        {str(i): i for i in range(300)},
    ),
    *WORDS,
]


def changed(*sources: bytes) -> st.SearchStrategy[bytes]:
    """Return one of some files with a few bytes changed, left out, put in, doubled, or taken from another."""
    return st.builds(_edited, st.sampled_from(sources), st.lists(_edits(sources), min_size=1, max_size=4))


def _edits(sources: tuple[bytes, ...]) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    def byte(value: int) -> Callable[[bytes, int], bytes]:
        return lambda x, i: x[:i] + bytes([value]) + x[i + 1 :]

    def bit(place: int) -> Callable[[bytes, int], bytes]:
        return lambda x, i: x[:i] + bytes([x[i] ^ 1 << place]) + x[i + 1 :] if x else x

    def number(value: int, form: str) -> Callable[[bytes, int], bytes]:
        width = struct.calcsize(form)
        whole = (value % 256**width).to_bytes(width, "big" if form[0] == ">" else "little")
        return lambda x, i: x[:i] + whole + x[i + width :]

    def cut(n: int) -> Callable[[bytes, int], bytes]:
        return lambda x, i: x[:i] + x[i + n :]

    def put(more: bytes) -> Callable[[bytes, int], bytes]:
        return lambda x, i: x[:i] + more + x[i:]

    def splice(other: bytes, start: float, n: int) -> Callable[[bytes, int], bytes]:
        at = int(start * len(other))
        return lambda x, i: x[:i] + other[at : at + n] + x[i + n :]

    return st.one_of(
        st.builds(byte, st.integers(0, 255)),
        st.builds(bit, st.integers(0, 7)),
        st.builds(number, st.sampled_from(NUMBERS), st.sampled_from(["<H", "<I", "<Q", ">H", ">I", ">Q"])),
        st.builds(cut, st.integers(1, 40)),
        st.just(lambda x, i: x[:i]),
        st.builds(put, st.binary(max_size=12)),
        st.builds(splice, st.sampled_from(sources), st.floats(0, 1), st.integers(1, 60)),
    ).flatmap(lambda edit: st.floats(0, 1).map(lambda at: lambda x: edit(x, min(int(at * len(x)), max(len(x) - 1, 0)))))


def _edited(content: bytes, edits: list[Callable[[bytes], bytes]]) -> bytes:
    for edit in edits:
        content = edit(content)
    return content


def text(content: bytes, *words: str) -> st.SearchStrategy[bytes]:
    """Return a text with some fields replaced by words that tables hold, or by bytes."""
    fields = content.split(b",")
    odd = st.sampled_from([*words, *WORDS]).map(lambda word: word.encode(errors="replace"))

    def replaced(places: list[tuple[float, bytes]]) -> bytes:
        new = list(fields)
        for place, word in places:
            new[min(int(place * len(new)), len(new) - 1)] = word
        return b",".join(new)

    return st.lists(st.tuples(st.floats(0, 1), odd), min_size=1, max_size=12).map(replaced)


def document(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a JSON document with a few values of another kind, keys left out, renamed or moved."""
    whole = json.loads(content)
    places = list(_places(whole))
    edit = st.tuples(
        st.sampled_from(places or [()]),
        st.sampled_from(["put", "put", "put", "drop", "rename", "copy"]),
        st.sampled_from(VALUES),
    )

    def apply(edits: list[tuple[tuple[Any, ...], str, Any]]) -> bytes:
        found = json.loads(content)
        for place, kind, value in edits:
            found = _changed_at(found, place, kind, copy.deepcopy(value), copy.deepcopy(whole))  # edits change them
        return json.dumps(found).encode(errors="replace")

    return st.one_of(
        st.lists(edit, min_size=1, max_size=3).map(apply),
        st.lists(edit, min_size=1, max_size=1).map(apply),
        changed(content),
        st.sampled_from([b"", b"{}", b"[]", b"null", b"1", b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"', b"NaN"]),
    )


def _places(value: Any, at: tuple[Any, ...] = ()) -> Any:
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:5]):
            yield from _places(inner, (*at, i))


def _changed_at(whole: Any, place: tuple[Any, ...], kind: str, value: Any, original: Any) -> Any:
    if not place:
        return value if kind == "put" else whole
    holder = whole
    try:
        for key in place[:-1]:
            holder = holder[key]
        key = place[-1]
        if kind == "put":
            holder[key] = value
        elif kind == "drop":
            del holder[key]
        elif kind == "rename" and isinstance(holder, dict):
            holder[str(value)[:100]] = holder.pop(key)
        else:
            holder[key] = original
    except (KeyError, IndexError, TypeError):
        pass  # an earlier change took the place away
    return whole


def png(*sources: bytes) -> st.SearchStrategy[bytes]:
    """Return a PNG with changed chunks whose checksums are right, so that what is in them is read."""

    def mended(content: bytes) -> bytes:
        found, at = content[:8], 8
        while at + 12 <= len(content):
            n = min(int.from_bytes(content[at : at + 4], "big"), len(content) - at - 12)
            part = content[at + 4 : at + 8 + n]
            found += n.to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big")
            at += 12 + n
        return found

    return changed(*sources).map(mended)


def safetensors(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a safetensors file with another header, which is JSON, or with other bytes."""
    n = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + n], content[8 + n :]
    about = json.loads(header).get("__metadata__", {})
    inner = [key for key, value in about.items() if value.startswith(("{", "["))]

    def packed(head: bytes) -> bytes:
        return len(head).to_bytes(8, "little") + head + body

    def within(key: str) -> st.SearchStrategy[bytes]:
        def put(text: bytes) -> bytes:
            whole = json.loads(header)
            whole["__metadata__"][key] = text.decode(errors="replace")
            return packed(json.dumps(whole).encode(errors="replace"))

        return document(about[key].encode()).map(put)

    return st.one_of(changed(content), document(header).map(packed), *map(within, inner))
