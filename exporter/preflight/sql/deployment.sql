-- What our own schema says of a deployment: pause, latest watch, latest rollback.
SELECT
    now() AS now,
    (
        SELECT c.paused_until
        FROM chatqueue.release_control AS c
        WHERE c.paused_until > now()
    ) AS paused_until,
    (SELECT max(r.decided_at) FROM chatqueue.rollback_audit AS r) AS rolled_back_at,
    w.started_at,
    least(w.ends_at, w.stopped_at) AS ends_at,
    w.rollback_until
FROM (SELECT) AS one
LEFT JOIN LATERAL (
    SELECT *
    FROM chatqueue.watch AS w
    WHERE w.stopped_at IS NULL OR w.stopped_at > w.started_at
    ORDER BY w.recorded_at DESC
    LIMIT 1
) AS w ON true
