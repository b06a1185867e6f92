"""Listen addresses as the operator writes them, and the sockets behind them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from exporter.errors import ChatqueueError

# Linux caps it at net.core.somaxconn; a burst of reconnects must not meet a full queue.
_BACKLOG = 1024
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class ListenError(ChatqueueError):
    """An address cannot be listened on; the message names it and the cause."""


def open_listeners(addresses: Sequence[str]) -> tuple[socket.socket, ...]:
    """Give non-blocking sockets that listen on every address.

    Args:
        addresses: `host:port`, `[IPv6]:port`, or `:port` for every interface, IPv4 and, where the
            machine has it, IPv6. Port 0 lets the system choose.

    Raises:
        ListenError: An address is malformed, in use, not permitted or not this machine's. None
            of the sockets stays open.
    """
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            host, port = split_address(address)
            listeners += _listen(address, host, port)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return tuple(listeners)


def split_address(address: str) -> tuple[str, int]:
    """Split a listen address into host (empty for every interface) and port.

    Raises:
        ListenError: It is not of the form `host:port`.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenError(_malformed(address))
    if (":" in host and not bracketed) or host == "[]":
        raise ListenError(_malformed(address))
    return (host[1:-1] if bracketed else host), int(port)


def bound_address(listener: socket.socket) -> str:
    """Give the address a socket really listens on, as `host:port`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _malformed(address: str) -> str:
    return f"listen address {address!r}: expected host:port, [IPv6]:port or :port"


def _listen(address: str, host: str, port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        if not host:
            return [_listen_everywhere(port)]
        for family, resolved in _resolve(host, port):
            listeners.append(_create((resolved, port), family))
    except OSError as error:
        for listener in listeners:
            listener.close()
        # create_server() puts the address into strerror; only the cause is wanted here.
        known = error.errno is not None and error.errno > 0
        cause = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise ListenError(f"cannot listen on {address}: {cause}") from error
    return listeners


def _resolve(host: str, port: int) -> list[tuple[int, str]]:
    """Give each family and address once; a name like `localhost` may have several."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(addr[0])) for family, _, _, _, addr in found))


def _listen_everywhere(port: int) -> socket.socket:
    """Listen on IPv6 and IPv4 by one socket, or on IPv4 where IPv6 is switched off."""
    if socket.has_dualstack_ipv6():
        try:
            return _create(("::", port), socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return _create(("0.0.0.0", port), socket.AF_INET)  # noqa: S104  the operator asked for it


def _create(
    sockaddr: tuple[str, int], family: int, *, dualstack_ipv6: bool = False
) -> socket.socket:
    listener = socket.create_server(
        sockaddr, family=family, backlog=_BACKLOG, dualstack_ipv6=dualstack_ipv6
    )
    listener.setblocking(False)
    return listener
