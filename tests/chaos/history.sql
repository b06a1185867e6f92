-- What happens on the platform, written by triggers in the very transaction that does it: a
-- transaction that is undone leaves nothing, and one that stands cannot hide anything. They run as
-- their owner: the daemons' roles have no rights here.
--
-- `seq` is drawn while the row's lock is held, so it orders what touches the same row as it was
-- committed. `snapshot` of a release is taken after its locks: what it shows was committed before.
CREATE SCHEMA chaos;
CREATE SEQUENCE chaos.seq;

CREATE TABLE chaos.entry (
    seq bigint NOT NULL DEFAULT nextval('chaos.seq'),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL DEFAULT session_user
);

-- A sign of life of an operator in a chat; `sign` is NULL where a heartbeat row was deleted.
CREATE TABLE chaos.sign (
    LIKE chaos.entry INCLUDING DEFAULTS,
    what text NOT NULL,
    chat_id uuid NOT NULL,
    operator_id uuid,
    assignment_id uuid,
    sign timestamptz,
    beat timestamptz
);
CREATE INDEX ON chaos.sign (chat_id, operator_id, seq);
CREATE INDEX ON chaos.sign (assignment_id);
CREATE INDEX ON chaos.sign (beat);

-- An assignment row that was closed.
CREATE TABLE chaos.closing (
    LIKE chaos.entry INCLUDING DEFAULTS,
    assignment_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    operator_id uuid NOT NULL,
    reason text
);
CREATE INDEX ON chaos.closing (xid);

-- A chat whose state, activity or operator changed.
CREATE TABLE chaos.change (
    LIKE chaos.entry INCLUDING DEFAULTS,
    chat_id uuid NOT NULL,
    state text,
    was_active boolean,
    is_active boolean,
    old_operator uuid,
    new_operator uuid
);
CREATE INDEX ON chaos.change (xid);

CREATE TABLE chaos.control (
    LIKE chaos.entry INCLUDING DEFAULTS,
    tokens double precision
);

-- An audit row; `silences` are the seconds without life of every sound assigned chat.
CREATE TABLE chaos.release (
    LIKE chaos.entry INCLUDING DEFAULTS,
    id uuid NOT NULL,
    assignment_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    operator_id uuid NOT NULL,
    outcome text NOT NULL,
    config_hash text NOT NULL,
    snapshot pg_snapshot NOT NULL,
    assigned integer NOT NULL,
    silences double precision [] NOT NULL,
    is_tripped boolean NOT NULL
);
CREATE INDEX ON chaos.release (chat_id, at);
CREATE INDEX ON chaos.release (xid);

-- What the course of the run did from outside: paused, resuming, refill, due.
CREATE TABLE chaos.mark (
    LIKE chaos.entry INCLUDING DEFAULTS,
    kind text NOT NULL,
    chat_id uuid,
    value double precision
);

CREATE FUNCTION chaos.is_silent() RETURNS boolean
LANGUAGE sql AS $$ SELECT coalesce(current_setting('chaos.silent', true), '') = 'on' $$;

CREATE FUNCTION chaos.note_assignment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.released_at IS NULL AND NEW.released_at IS NOT NULL THEN
        INSERT INTO chaos.closing (assignment_id, chat_id, operator_id, reason)
        VALUES (NEW.id, NEW.chat_id, NEW.operator_id, NEW.release_reason);
    END IF;
    IF NEW.released_at IS NULL AND NOT chaos.is_silent() THEN
        INSERT INTO chaos.sign (what, chat_id, operator_id, assignment_id, sign)
        VALUES ('assignment', NEW.chat_id, NEW.operator_id, NEW.id, NEW.assigned_at);
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_assignment AFTER INSERT OR UPDATE ON public.chat_assignments
FOR EACH ROW EXECUTE FUNCTION chaos.note_assignment();

CREATE FUNCTION chaos.note_chat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.assignment_time IS DISTINCT FROM OLD.assignment_time
        AND NEW.assignment_time IS NOT NULL AND NOT chaos.is_silent()
    THEN
        INSERT INTO chaos.sign (what, chat_id, operator_id, sign)
        VALUES ('chat', NEW.id, NEW.assigned_operator_id, NEW.assignment_time);
    END IF;
    IF (NEW.chat_state, NEW.is_active, NEW.assigned_operator_id)
        IS DISTINCT FROM (OLD.chat_state, OLD.is_active, OLD.assigned_operator_id)
    THEN
        INSERT INTO chaos.change
            (chat_id, state, was_active, is_active, old_operator, new_operator)
        VALUES (
            NEW.id, NEW.chat_state, OLD.is_active, NEW.is_active,
            OLD.assigned_operator_id, NEW.assigned_operator_id
        );
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_chat AFTER UPDATE ON public.chats
FOR EACH ROW EXECUTE FUNCTION chaos.note_chat();

CREATE FUNCTION chaos.note_beat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF chaos.is_silent() THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO chaos.sign (what, chat_id, operator_id)
        VALUES ('no beat', OLD.chat_id, OLD.operator_id);
    ELSE
        INSERT INTO chaos.sign (what, chat_id, operator_id, sign, beat)
        VALUES (
            'beat', NEW.chat_id, NEW.operator_id,
            greatest(NEW.last_activity, NEW.updated_at), NEW.updated_at
        );
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_beat AFTER INSERT OR UPDATE OR DELETE ON public.operator_activity
FOR EACH ROW EXECUTE FUNCTION chaos.note_beat();

CREATE FUNCTION chaos.note_message() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.sign (what, chat_id, operator_id, sign)
    VALUES ('message', NEW.chat_id, NEW.handled_by_operator_id, NEW.created_at);
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_message AFTER INSERT ON public.messages
FOR EACH ROW WHEN (NEW.sender_type = 'fictional') EXECUTE FUNCTION chaos.note_message();

CREATE FUNCTION chaos.note_control() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.control (tokens) VALUES (NEW.tokens);
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_control AFTER UPDATE ON chatqueue.release_control
FOR EACH ROW EXECUTE FUNCTION chaos.note_control();

-- The truth about every chat with one open assignment, those apart that an admin's reassignment
-- left to an earlier operator: nothing of the product's own SQL.
CREATE VIEW chaos.truth AS
SELECT
    c.id AS chat_id,
    a.id AS assignment_id,
    c.assigned_operator_id AS operator_id,
    greatest(
        c.assignment_time,
        a.assigned_at,
        (
            SELECT max(greatest(h.last_activity, h.updated_at))
            FROM public.operator_activity AS h
            WHERE h.chat_id = c.id AND h.operator_id = c.assigned_operator_id
        ),
        (
            SELECT max(m.created_at)
            FROM public.messages AS m
            WHERE m.chat_id = c.id AND m.handled_by_operator_id = c.assigned_operator_id
        )
    ) AS alive_at
FROM public.chats AS c
INNER JOIN public.chat_assignments AS a
    ON c.id = a.chat_id AND a.released_at IS NULL AND c.assigned_operator_id = a.operator_id
WHERE
    c.chat_state = 'assigned'
    AND c.is_active
    AND NOT EXISTS (
        SELECT FROM public.chat_assignments AS b
        WHERE
            b.chat_id = c.id AND b.released_at IS NULL AND b.id <> a.id
            AND (
                b.operator_id = a.operator_id
                OR NOT EXISTS (
                    SELECT FROM public.chat_assignments AS q
                    WHERE
                        q.chat_id = b.chat_id AND q.operator_id = b.operator_id AND q.id <> b.id
                        AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                        AND q.released_at > b.assigned_at
                )
            )
    );

-- It dwells a little first, which makes the time between judging and committing longer: whoever
-- is not kept out by the locks gets in here.
CREATE FUNCTION chaos.note_release() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM pg_sleep(
        random() * coalesce(nullif(current_setting('chaos.dwell_s', true), ''), '0')::float8
    );
    INSERT INTO chaos.release (
        id, assignment_id, chat_id, operator_id, outcome, config_hash,
        snapshot, assigned, silences, is_tripped
    )
    SELECT
        NEW.id, NEW.assignment_id, NEW.chat_id, NEW.operator_id, NEW.outcome, NEW.config_hash,
        pg_current_snapshot(),
        (SELECT count(*) FROM public.chats AS c WHERE c.is_active AND c.chat_state = 'assigned'),
        (
            SELECT coalesce(array_agg(extract(EPOCH FROM clock_timestamp() - t.alive_at)), '{}')
            FROM chaos.truth AS t
        ),
        (SELECT k.tripped_at IS NOT NULL FROM chatqueue.release_control AS k);
    RETURN NULL;
END;
$$;
CREATE TRIGGER chaos_release AFTER INSERT ON chatqueue.release_audit
FOR EACH ROW EXECUTE FUNCTION chaos.note_release();
