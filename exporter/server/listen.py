"""Listen addresses of the operator, and the sockets that listen on them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from exporter.errors import ChatqueueError
from exporter.manager import take_sockets

# Linux caps it at net.core.somaxconn; a burst of reconnects must not meet a full queue.
_BACKLOG = 1024
SYSTEMD = "systemd:"
"""The address of sockets that systemd opened."""


class ListenError(ChatqueueError):
    """An address cannot be listened on; the message names it and the cause."""


def open_listeners(addresses: Sequence[str]) -> tuple[socket.socket, ...]:
    """Return non-blocking sockets that listen on every address.

    Args:
        addresses: `host:port`, `[IPv6]:port`, `:port` for every interface, IPv4 and, if the machine
            has it, IPv6, `unix:/path`, or SYSTEMD for the sockets that the service manager opened.
            Port 0 lets the system choose.

    Raises:
        ListenError: An address is malformed, in use, not permitted or not local. All sockets are
            closed.
    """
    with ExitStack() as stack:
        listeners = []
        for address in addresses:
            try:
                for listener in _listen(address):
                    listeners.append(stack.enter_context(listener))
                    listener.setblocking(False)
            except OSError as error:
                # create_server() puts the address into strerror; a failed look-up has no errno.
                number = error.errno or 0
                cause = os.strerror(number) if number > 0 else error.strerror
                raise ListenError(f"cannot listen on {address}: {cause}") from error
        stack.pop_all()
    return tuple(listeners)


def split_address(address: str) -> tuple[str, int]:
    """Split a listen address into host (empty for every interface) and port.

    Raises:
        ListenError: It is not of the form `host:port`.
    """
    try:
        parts = urlsplit(f"//{address}")
        if parts.netloc == address and parts.port is not None and "@" not in address:
            return parts.hostname or "", parts.port
    except ValueError:
        pass
    expected = "expected host:port, [IPv6]:port, :port or unix:/path"
    raise ListenError(f"listen address {address!r}: {expected}")


def bound_address(listener: socket.socket) -> str:
    """Return the address a socket really listens on, as `host:port` or `unix:/path`."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(address: str) -> Iterator[socket.socket]:
    """Yield the sockets of one address; a name like `localhost` may have several."""
    if address == SYSTEMD:
        taken = take_sockets()
        if not taken:
            raise ListenError("no socket was handed over by systemd, expected a unit .socket")
        yield from taken
        return
    if address.startswith("unix:/"):
        path = address.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == errno.ECONNREFUSED:  # left by a daemon that was killed
                Path(path).unlink()
        listener = socket.socket(socket.AF_UNIX)
        yield listener  # from here on the caller closes it
        listener.bind(path)
        listener.listen(_BACKLOG)
        return
    host, port = split_address(address)
    if not host:
        yield _listen_everywhere(port)
        return
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, name in dict.fromkeys((each[0], str(each[4][0])) for each in resolved):
        yield socket.create_server((name, port), family=family, backlog=_BACKLOG)


def _listen_everywhere(port: int) -> socket.socket:
    """Listen on IPv6 and IPv4 with one socket, or on IPv4 if IPv6 is switched off."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)  # noqa: S104  as asked for
