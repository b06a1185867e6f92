-- The watch that an operator's command began last; opening.sql says whether the table can be read.
SELECT
    w.started_at,
    least(w.ends_at, w.stopped_at) AS ends_at,
    w.rollback_until
FROM chatqueue.watch AS w
-- One that was stopped before it began never was.
WHERE w.stopped_at IS NULL OR w.stopped_at > w.started_at
ORDER BY w.recorded_at DESC
LIMIT 1
