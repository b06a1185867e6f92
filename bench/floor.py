"""The least a Python process can do: a body made beforehand, sent to whoever asks.

No parsing, no routes, no limits; what any Python exporter costs beyond this is its own.
Run as `python -m bench.floor PORT BODY_FILE`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast


class _Constant(asyncio.Protocol):
    """Answers every request on a connection with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(self._answer)


async def _serve(port: int, body: bytes) -> None:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Constant(head + body), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
