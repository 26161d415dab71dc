"""Where a published set is looked for, and how a download succeeds or leaves nothing behind."""

import gzip
import hashlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from dampen.data import _download, _published, load
from dampen.errors import InputError

NAME = "fashion-mnist"
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_set(shade: int = 1) -> dict[str, bytes]:
    arrays = (
        np.full((20, 28, 28), shade, dtype=np.uint8),
        (np.arange(20) % 10).astype(np.uint8),
        np.full((10, 28, 28), shade, dtype=np.uint8),
        np.arange(10, dtype=np.uint8),
    )
    return {f"{file}.gz": gzip.compress(idx_bytes(array)) for file, array in zip(FILES, arrays, strict=True)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def shade(data) -> int:
    return int(data.features.unique().item())


@pytest.fixture
def published(monkeypatch) -> dict[str, bytes]:
    """A small set under Fashion-MNIST's name, with its MD5s in the table."""
    files = small_set()
    md5 = {file: hashlib.md5(files[f"{file}.gz"]).hexdigest() for file in FILES}
    entry = replace(_published.PUBLISHED[NAME], md5=md5)
    monkeypatch.setitem(_published.PUBLISHED, NAME, entry)
    return files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, no environment of the user's and no proxy."""
    for variable in ("DAMPEN_DATA", "DAMPEN_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "dampen"


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def missing(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_error(404)


def cut(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def reset(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    cut(handler, content)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def altered(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    whole(handler, content[:-1] + b"?")


def without_length(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)


def late(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    time.sleep(0.5)


class Server:
    """A mirror on this machine; `answers` changes what it says to one file."""

    def __init__(self, files: dict[str, bytes]):
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.removeprefix(f"/{NAME}/")
                server.asked.append(name)
                server.answers.get(name, whole)(self, files[name])

            def log_message(self, format, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda request, client_address: None
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(published, monkeypatch) -> Iterator[Server]:
    server = Server(published)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("DAMPEN_MIRROR", server.address + "/")
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_a_set_is_downloaded_once_and_then_read_from_the_cache(server, published, cache, capfd):
    data = load(NAME)
    assert server.asked == list(published)
    assert load(NAME).features.equal(data.features)
    assert len(server.asked) == 4
    assert {path.name: path.read_bytes() for path in (cache / NAME).iterdir()} == published
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert data.source == str(cache / NAME)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (missing, "the server responded 404"),
        (cut, "broke in the middle"),
        (reset, "broke in the middle|no connection"),  # a reset may overtake the headers
        (altered, "wrong MD5"),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do_by_hand(
    server, published, cache, capfd, answer, says, file
):
    server.answers[f"{file}.gz"] = answer
    with pytest.raises(InputError, match=says) as caught:
        load(NAME)
    line = str(caught.value)
    assert f"{server.address}/{NAME}/{file}.gz" in line
    assert f"into {cache / NAME}" in line
    assert all(name in line for name in published)
    assert "\n" not in line
    assert list(cache.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_server_that_tells_no_length_is_read_to_its_end(server, published, cache, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    server.answers = dict.fromkeys(published, without_length)
    load(NAME, progress=True)
    assert {path.name: path.read_bytes() for path in (cache / NAME).iterdir()} == published


def test_a_server_that_does_not_answer_in_time_is_told_in_one_line(server, published, cache, monkeypatch):
    monkeypatch.setattr(_download, "_TIMEOUT_S", (5, 0.1))
    server.answers = dict.fromkeys(published, late)
    with pytest.raises(InputError, match=f"no response in time from {server.address}/{NAME}/train-images"):
        load(NAME)
    assert list(cache.iterdir()) == []


def test_after_a_failure_the_next_attempt_succeeds(server, cache):
    server.answers[f"{FILES[2]}.gz"] = missing
    with pytest.raises(InputError):
        load(NAME)
    server.answers.clear()
    assert shade(load(NAME)) == 1


def test_a_refused_connection_is_told_in_one_line(cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("DAMPEN_MIRROR", f"http://127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"no connection to http://127.0.0.1:{port}/mnist/train-images"):
        load("mnist")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("mirror", ["no-scheme.example", "gopher://127.0.0.1", "http://"])
def test_a_mirror_that_is_no_address_is_told_in_one_line(cache, monkeypatch, mirror):
    monkeypatch.setenv("DAMPEN_MIRROR", mirror)
    with pytest.raises(InputError, match="can't be fetched"):
        load("mnist")
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told_in_one_line(cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="can't write to"):
        load("mnist")


def test_a_cache_that_lacks_a_file_is_completed(server, published, cache):
    write(cache / NAME, {f"{FILES[0]}.gz": published[f"{FILES[0]}.gz"]})
    assert shade(load(NAME)) == 1
    assert len(list((cache / NAME).iterdir())) == 4


def test_two_downloads_at_once_both_succeed_and_leave_one_set(server, published, cache):
    both = threading.Barrier(2)

    def wait(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        both.wait(timeout=20)
        whole(handler, content)

    server.answers = dict.fromkeys(published, wait)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: load(NAME), range(2))
    assert first.features.equal(second.features)
    assert {path.name: path.read_bytes() for path in (cache / NAME).iterdir()} == published
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_a_bar_is_drawn_only_where_someone_can_see_it(server, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    load(NAME, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(file in err for file in FILES)


def test_progress_without_a_terminal_is_one_line(server, capsys):
    load(NAME, progress=True)
    assert [line.startswith("dampen: downloading") for line in capsys.readouterr().err.splitlines()] == [True]


def test_folders_are_searched_in_order_as_they_are_and_by_the_sets_name(tmp_path, cache, monkeypatch):
    write(cache / NAME, small_set(shade=3))
    assert shade(load(NAME)) == 3
    environment = write(tmp_path / "environment", small_set(shade=2))
    monkeypatch.setenv("DAMPEN_DATA", str(environment))
    assert shade(load(NAME)) == 2
    write(tmp_path / "given" / NAME, small_set(shade=1))
    assert shade(load(NAME, data_dir=tmp_path / "given")) == 1
    assert shade(load(NAME, data_dir=tmp_path / "given" / NAME)) == 1


def test_a_data_dir_without_the_set_is_passed_by_visibly(tmp_path, cache, capsys):
    write(cache / NAME, small_set())
    empty = write(tmp_path / "empty", {})
    data = load(NAME, data_dir=empty, progress=True)
    assert data.source == f"{cache / NAME} (no {NAME} in data_dir {empty})"
    assert f"no {NAME} in data_dir {empty}" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["", NAME])
def test_a_data_dir_with_some_of_the_files_is_refused(tmp_path, where):
    files = small_set()
    del files[f"{FILES[3]}.gz"]
    write(tmp_path / "given" / where, files)
    with pytest.raises(InputError, match=f"lacks {FILES[3]}"):
        load(NAME, data_dir=tmp_path / "given")


def test_the_folder_of_another_set_is_never_taken_for_this_one(tmp_path, cache):
    write(cache / NAME, small_set(shade=2))
    other = write(tmp_path / "mnist", small_set(shade=1))
    assert shade(load(NAME, data_dir=other)) == 2


def test_an_environment_that_names_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DAMPEN_DATA", str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"DAMPEN_DATA .*missing is not a folder"):
        load(NAME)
