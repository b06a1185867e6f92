"""HTTP for the daemon: sockets, limits, TLS and basic authentication around one function.

What is served is decided by the `Application` and the `Uploads` handed in.
"""

from __future__ import annotations

from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.listen import ListenError
from exporter.server.message import Application, Request, Response, Uploads
from exporter.server.protocol import Limits
from exporter.server.web_config import WebConfig, load_web_config

__all__ = [
    "App",
    "Application",
    "HttpServer",
    "Limits",
    "ListenError",
    "Request",
    "Response",
    "Uploads",
    "WebConfig",
    "load_web_config",
]
