"""What others than the page send is refused, and the server lives."""

import asyncio
import contextlib
import http.client
import json
import random
import re
import string

import pytest

from dampen.play._guard import Guard

MESSAGES = 10_000
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport="
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def ask(server, path="/", method="GET", body=None, **headers):
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = "" if answer.status == 101 else answer.read().decode()
    answer.close()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "[", "192.168.0.1"])
def test_a_foreign_host_is_refused_by_every_way_in(server, host):
    assert ask(server, Host=host)[0] == 403
    assert ask(server, SOCKET + "polling", Host=host)[0] == 403
    assert ask(server, SOCKET + "websocket", Host=host, **HANDSHAKE)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_foreign_origin_is_refused_by_every_way_in(server, origin):
    assert ask(server, Origin=origin)[0] == 403
    assert ask(server, SOCKET + "polling", Origin=origin)[0] == 403
    assert ask(server, SOCKET + "websocket", Origin=origin, **HANDSHAKE)[0] == 403


def test_the_page_itself_is_let_in_and_may_not_be_framed_or_load_from_elsewhere(server):
    own = f"http://127.0.0.1:{server.port}"
    assert ask(server, Origin=own)[0] == 200
    assert ask(server, SOCKET + "websocket", Origin=own, **HANDSHAKE)[0] == 101
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/")
        with connection.getresponse() as answer:
            policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy


def test_a_request_that_is_too_large_is_refused(server):
    assert ask(server, method="POST", Content_Length=str(1 << 40))[0] == 413
    assert ask(server, method="POST", Content_Length="-1")[0] in (400, 413)
    assert ask(server)[0] == 200


def _junk(rng, depth=0):
    match rng.randrange(7 if depth < 3 else 5):
        case 0:
            return None
        case 1:
            return rng.choice([0, -1, 1 << 60, rng.randrange(100), rng.random() * 1e300])
        case 2:
            return "".join(rng.choices(string.printable + "\0\x9f中", k=rng.randrange(40)))
        case 3:
            return rng.random() < 0.5
        case 4:
            return "<img src=x onerror=alert(1)>"
        case 5:
            return [_junk(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {name: _junk(rng, depth + 1) for name in rng.sample(["id", "args", "result", "client_id", "x"], 3)}


def _message(rng, client):
    """Return a random message, most often one that has the form of a page's own."""
    kind = rng.random()
    if kind < 0.001:
        return rng.randbytes(rng.randrange(60))
    if kind < 0.002:
        return "".join(rng.choices(string.printable, k=rng.randrange(60)))
    event = rng.choice(["event", "javascript_response", "log", "ack", "too_long_message", "nosuch"])
    event = "handshake" if rng.random() < 0.002 else event  # a second one ends the connection
    fields = {"client_id": client, "id": rng.randrange(80), "listener_id": str(rng.random()), "level": "info"}
    fields |= {"request_id": "x", "result": _junk(rng), "args": _junk(rng), "message": _junk(rng)}
    return f"42{json.dumps([event, _junk(rng) if rng.random() < 0.2 else fields])}"


def test_ten_thousand_random_messages_end_no_server(server):
    connect = pytest.importorskip("websockets.sync.client").connect
    from websockets.exceptions import WebSocketException

    rng, own = random.Random(0), f"127.0.0.1:{server.port}"
    client = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ask(server)[1])[0]
    sent = read = 0
    while sent < MESSAGES:
        socket = connect(f"ws://{own}{SOCKET}websocket", origin=f"http://{own}", max_size=None)
        with contextlib.suppress(WebSocketException, OSError), socket:  # what is no message ends the connection
            socket.recv()
            socket.send("40")
            for _ in range(min(500, MESSAGES - sent)):
                sent += 1
                socket.send(_message(rng, client))
            socket.send("40/nosuch,")
            while not socket.recv(timeout=3).startswith("44/nosuch"):  # all that came before has been read
                pass
            read += 1
    assert ask(server)[0] == 200
    assert read  # not every connection ended early


TOKEN = "a-token"


def through(guard, kind="http", query=b"", **headers):
    """Return what a guard answers: the status, and the headers of a request that it lets through."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect" if kind == "websocket" else "http.request", "body": b"x" * 100}

    scope = {
        "type": kind,
        "path": "/",
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "extensions": {"websocket.http.response": {}},
    }
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0].get("headers", ()))


async def _inner(scope, receive, send):
    message = await receive()
    status = 200 if message["type"] != "http.disconnect" else 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_token_is_needed_once_and_then_the_cookie(kind):
    guard = Guard(_inner, (), TOKEN)
    assert through(guard, kind, host="lab:80")[0] == 403
    assert through(guard, kind, b"token=wrong", host="lab:80")[0] == 403
    assert through(guard, kind, host="lab:80", cookie="dampen-play=wrong")[0] == 403
    assert through(guard, kind, host="lab:80", cookie=f"dampen-play={TOKEN}")[0] == 200
    status, headers = through(guard, "http", b"token=a-token", host="lab:80")
    assert status == 200
    assert headers[b"set-cookie"] == f"dampen-play={TOKEN}; Path=/; HttpOnly; SameSite=Strict".encode()


def test_a_token_does_not_let_another_sites_page_in():
    guard = Guard(_inner, (), TOKEN)
    assert through(guard, "websocket", b"token=a-token", host="lab:80", origin="http://evil.example")[0] == 403


def test_a_body_that_is_longer_than_announced_is_cut_off():
    guard = Guard(_inner, ("localhost",), largest=99)
    assert through(guard, host="localhost", **{"content-length": "10"})[0] == 400
    assert through(Guard(_inner, ("localhost",), largest=100), host="localhost")[0] == 200
