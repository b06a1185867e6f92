"""The simulated people: a discrete-event model that knows nothing of PostgreSQL, and what it uses.

`people` decides who of the `cast` does what and when; `port` is what it asks of a platform;
`memory` is a platform without a database, which makes the history; `live` is the one on
PostgreSQL; `rows` and `backfill` carry the history over; `faults` are rows gone wrong.
"""
