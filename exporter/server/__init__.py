"""HTTP for the daemon: uvicorn's protocol with limits, TLS and authentication, and the routes."""
