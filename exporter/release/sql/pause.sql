-- Waits for the release that is under way: once this has returned, no other begins.
UPDATE chatqueue.release_control
SET
    paused_until = clock_timestamp() + make_interval(secs => %(seconds)s),
    pause_reason = %(reason)s,
    paused_by = %(by)s
RETURNING paused_until::text AS until
