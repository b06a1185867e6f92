-- Ends the watch that is running, or that is still to begin.
UPDATE chatqueue.watch
SET stopped_at = now(), stopped_by = %(by)s
WHERE stopped_at IS NULL AND ends_at > now()
RETURNING started_at, now() AS stopped_at
