"""Where the page is served, and what that address is called."""

import ipaddress
import socket
import sys
from collections.abc import Mapping
from urllib.parse import urlencode

from dampen.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Return whether a host is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        host: address to listen at.
        port: its number, 0 for any that is free.

    Raises:
        InputError: it can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # where it would let a second server take the port
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the page can't be served at {host}, port {port} ({reason}): --port 0 takes any port that is free"
        ) from None
    return found


def address_of(host: str, port: int, path: str, query: Mapping[str, str]) -> str:
    """Return the address of a page."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{path}" + (f"?{urlencode(query)}" if query else "")
