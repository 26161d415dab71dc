"""`dampen play` before its server starts, and `dampen.play()` of a notebook."""

import http.client
import os
import re
import runpy
import socket
from urllib.parse import urlsplit

import pytest

import dampen
from dampen.errors import InputError
from dampen.play import _serve


def test_without_the_extra_one_line_says_how_to_install_it(run, monkeypatch):
    monkeypatch.setattr(_serve, "find_spec", lambda name: None)
    code, stdout, stderr = run("play", "--no-browser")
    assert (code, stdout) == (2, "")
    assert stderr == "dampen: the page needs NiceGUI, which is not installed: pip install 'dampen[play]'\n"


def test_bad_data_is_one_line_before_the_server_starts(run):
    code, stdout, stderr = run("play", "nosuch.csv", "--no-browser")
    assert (code, stdout) == (2, "")
    assert stderr == "dampen: there is no file nosuch.csv; correct the name\n"


def test_a_shape_that_there_is_not_is_told_with_those_that_there_are(run):
    code, stdout, stderr = run("play", "moon", "--no-browser")
    assert (code, stdout) == (2, "")
    assert stderr.startswith(
        "dampen: 'moon' is no shape, data set or folder; the shapes are moons, circles, spiral, xor, blobs, curve; "
        "the sets are digits, "
    )


@pytest.mark.parametrize("words", [["--target", "price"], ["moons", "--time-order", "day"]])
def test_options_of_data_without_data_are_one_line(run, words):
    code, stdout, stderr = run("play", *words, "--no-browser")
    assert (code, stdout) == (2, "")
    assert stderr == f"dampen: {words[-2]} is for data of your own: name its file or folder first\n"


@pytest.mark.parametrize("module", ["dampen", "dampen.cli"])
def test_the_packages_are_the_command(module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["dampen", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("dampen ")


def test_a_port_that_is_taken_is_one_line(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, stdout, stderr = run("play", "--port", port, "--no-browser")
    assert (code, stdout) == (2, "")
    line = (
        rf"dampen: the page can't be served at 127\.0\.0\.1, port {port} \(.*\): --port 0 takes any port that is free\n"
    )
    assert re.fullmatch(line, stderr)


def test_a_notebook_shows_the_lesson_from_a_server_that_ends_with_it():
    shown = dampen.play(points="spiral", dropout=0.5, lang="zh", height=700)
    try:
        parts = urlsplit(shown.address)
        assert (parts.hostname, parts.query) == ("127.0.0.1", "points=spiral&dropout=0.5&lang=zh")
        frame = shown._repr_html_()
        assert f'src="{shown.address.replace("&", "&amp;")}"' in frame
        assert 'height="700"' in frame
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        connection.request("GET", "/")
        with connection.getresponse() as answer:
            assert answer.status == 200
            assert "http://localhost:*" in answer.getheader("Content-Security-Policy")
        connection.close()
        assert os.getpgid(shown._process.pid) != os.getpgid(0)  # the group that Jupyter interrupts
    finally:
        shown.close()
    assert shown._process.returncode == 0


def test_a_notebook_is_told_what_a_lesson_has_not():
    with pytest.raises(InputError, match="a lesson has no 'weigth_decay'; it has points"):
        dampen.play(weigth_decay=0.1)
    with pytest.raises(InputError, match=r"dropout must be a number from 0 to 0\.9, got 2"):
        dampen.play(dropout=2.0)
