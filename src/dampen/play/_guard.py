"""Who may speak to the page: requests for this host, from this page, of a bounded size, with the token if there is one.

A page of another site can send requests to a server on this machine, and by DNS rebinding read the answers: it then
shows in the `Host`, or in the `Origin` of a WebSocket, which browsers send whatever the page wants.
"""

import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LOG = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

LARGEST_UPLOAD = 64 << 20  # bytes of a request

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors "
)


@dataclass(frozen=True)
class Guard:
    """An ASGI application around another one that lets no stranger through.

    Args:
        app: what is guarded.
        hosts: names under which the server may be spoken to; empty: any, which needs a token.
        token: what the first address must name as `?token=`, and a cookie afterwards; None where none is needed.
        framed_by: origins whose pages may show this one inside, as notebooks do.
        largest: bytes of a request.
        cookie: its name; servers at other ports of a host must have another one.
    """

    app: Any
    hosts: Sequence[str]
    token: str | None = None
    framed_by: Sequence[str] = ()
    largest: int = LARGEST_UPLOAD
    cookie: str = "dampen-play"
    _policy: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_policy", (_POLICY + " ".join(("'self'", *self.framed_by))).encode())

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        reason, status = self._refused(headers), 403
        given = self._token_of(scope)
        if reason is None and self.token is not None and not self._knows(headers, given):
            reason = "the link of this page has a token: open the address that dampen play printed"
        if reason is None and _size(headers) > self.largest:
            reason, status = f"a request may have {self.largest >> 20} MiB at most", 413
        if reason is not None:
            await _refuse(scope, receive, send, status, reason)
            return
        if scope["type"] == "websocket":
            try:
                await self.app(scope, receive, send)
            except Exception:  # what came was no message of a page's
                _LOG.debug("a connection ends", exc_info=True)
                with contextlib.suppress(Exception):  # it may be closed already
                    await send({"type": "websocket.close", "code": 1007})
            return
        await self.app(scope, self._counted(receive), self._with_headers(send, scope, given))

    def _refused(self, headers: dict[bytes, str]) -> str | None:
        host = headers.get(b"host", "")
        name = _host_name(host)
        if not name or (self.hosts and name not in self.hosts):
            return "this address is not one of the page's own"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "another site's page may not use this one"
        return None

    def _knows(self, headers: dict[bytes, str], given: str | None) -> bool:
        assert self.token is not None
        if given is not None and hmac.compare_digest(given.encode(), self.token.encode()):
            return True
        try:
            morsel = SimpleCookie(headers.get(b"cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.token.encode())

    @staticmethod
    def _token_of(scope: Message) -> str | None:
        values = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        return values[0] if values else None

    def _counted(self, receive: Any) -> Any:
        """Return what receives a request of at most so many bytes, whatever it announced; the rest is cut off."""
        left = self.largest

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    return {"type": "http.disconnect"}
            return message

        return limited

    def _with_headers(self, send: Any, scope: Message, given: str | None) -> Any:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [
                    (b"content-security-policy", self._policy),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                if given is not None and self.token is not None:
                    added.append(
                        (b"set-cookie", f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode())
                    )
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        return sender


def _host_name(host: str) -> str:
    """Return a host without its port, in small letters."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _size(headers: dict[bytes, str]) -> int:
    text = headers.get(b"content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 1 << 62 if text != "0" else 0


async def _refuse(scope: Message, receive: Any, send: Any, status: int, reason: str) -> None:
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    if scope["type"] == "websocket":
        await receive()  # the handshake's first event
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    body = f"{reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
