INSERT INTO chatqueue.release_exemption (kind, subject, until, created_by, reason)
VALUES (
    %(kind)s, %(subject)s, clock_timestamp() + make_interval(secs => %(seconds)s), %(by)s,
    %(reason)s
)
ON CONFLICT (kind, subject) DO UPDATE
SET until = excluded.until, created_by = excluded.created_by, reason = excluded.reason,
    created_at = clock_timestamp()
RETURNING until::text AS until
