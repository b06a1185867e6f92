-- Version 5: `chatqueue watch start` and `stop`.

-- One row for each start; the latest counts.
CREATE TABLE IF NOT EXISTS chatqueue.watch (
    recorded_at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    started_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    rollback_until timestamptz NOT NULL,
    actor text NOT NULL,
    stopped_at timestamptz,
    stopped_by text,
    CHECK (ends_at > started_at AND rollback_until > started_at)
);
-- The daemon's reading role needs no further grant to see when the watch is.
GRANT USAGE ON SCHEMA chatqueue TO PUBLIC;
GRANT SELECT (recorded_at, started_at, ends_at, rollback_until, stopped_at) ON chatqueue.watch
TO PUBLIC;
-- Where the host switches row-level security on for every new table.
DROP POLICY IF EXISTS "as granted" ON chatqueue.watch;
CREATE POLICY "as granted" ON chatqueue.watch USING (true) WITH CHECK (true);
