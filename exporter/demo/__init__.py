"""The demo: a throw-away PostgreSQL, the reference platform and people who use it.

Everything here is for `chatqueue demo` and the tests; the exporter itself never imports it.
`postgres` runs the server, `platform` is the watched schema with the application's own writes,
`world` the simulated people, `scenarios` what goes wrong with them, `simulation` drives it all.
"""
