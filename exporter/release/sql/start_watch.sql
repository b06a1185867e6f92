-- Begins a watch unless one is running; a time that is not given is the database's now.
INSERT INTO chatqueue.watch (started_at, ends_at, rollback_until, actor)
SELECT
    s.at,
    s.at + make_interval(secs => %(for)s),
    s.at + make_interval(secs => %(rollback_within)s),
    %(by)s
FROM (SELECT coalesce(%(at)s::timestamptz, now()) AS at) AS s
WHERE NOT EXISTS (
    SELECT
    FROM chatqueue.watch AS w
    WHERE w.stopped_at IS NULL AND w.ends_at > now()
)
RETURNING started_at, ends_at, rollback_until
