"""The simulated people, a discrete-event model, and the two platforms that they use.

`people` decides who of the `cast` does what and when; `memory` is a platform without a database,
which makes the history; `live` is the one on PostgreSQL; `rows` carry the history over; `faults`
are chats that contradict themselves.
"""
