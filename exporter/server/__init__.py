"""HTTP for the daemon: sockets, limits, TLS and basic authentication around one function.

What is served is the business of the `Application` handed in; this package knows nothing of
metrics. `HttpServer` runs on an asyncio loop, `ServerThread` gives it a thread and a loop of its
own.
"""

from __future__ import annotations

from exporter.server.http_server import HttpServer
from exporter.server.limits import Limits
from exporter.server.listen import ListenError
from exporter.server.message import Application, Request, Response
from exporter.server.thread import ServerThread
from exporter.server.uploads import Uploads
from exporter.server.web_config import WebConfig, load_web_config

__all__ = [
    "Application",
    "HttpServer",
    "Limits",
    "ListenError",
    "Request",
    "Response",
    "ServerThread",
    "Uploads",
    "WebConfig",
    "load_web_config",
]
