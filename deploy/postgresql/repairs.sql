-- What `chatqueue fix` and `chatqueue verify --flow` need in addition to a release. Run it after
-- releaser.sql, as the same owner, and only for a role that people use: a daemon needs none of
-- this, and running releaser.sql again revokes it. `chatqueue grants --with-repairs` prints both.
--
-- fix: the server lets a chat be changed only to what a row of chatqueue.fix_audit says, written in
-- the same transaction; that row must match the chat before the change and be one of the repairs.
-- verify --flow: its rows, and nothing else, have an id that begins with c4a7c4a7-c4a7-4.
BEGIN;
SET LOCAL lock_timeout = '3s';

DO $$
BEGIN
    IF to_regclass('chatqueue.fix_audit') IS NULL THEN
        RAISE EXCEPTION 'the table chatqueue.fix_audit is missing, run chatqueue install --apply first';
    END IF;
END
$$;

GRANT
    SELECT (real_user_id, operator_replied_at, message_count),
    INSERT,
    UPDATE (is_active, last_operator_id, operator_replied_at, last_message_at, message_count)
ON public.chats TO "chatqueue_releaser";
GRANT SELECT (id, is_active), INSERT ON public.real_users TO "chatqueue_releaser";
GRANT INSERT ON public.fictional_users, public.messages TO "chatqueue_releaser";
GRANT SELECT (total_messages), INSERT, UPDATE (total_messages)
ON public.operators TO "chatqueue_releaser";
GRANT EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid) TO "chatqueue_releaser";
GRANT INSERT (id, fix, chat_id, actor, reason, before, after)
ON chatqueue.fix_audit TO "chatqueue_releaser";

DROP POLICY IF EXISTS "chatqueue_releaser" ON public.real_users;
CREATE POLICY "chatqueue_releaser" ON public.real_users TO "chatqueue_releaser"
USING (true)
WITH CHECK (true);
DROP POLICY IF EXISTS "chatqueue_releaser" ON public.fictional_users;
CREATE POLICY "chatqueue_releaser" ON public.fictional_users TO "chatqueue_releaser"
USING (true)
WITH CHECK (true);

-- Only rows of the flow may be inserted.
DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT *
        FROM (
            VALUES
            ('real_users', 'id'), ('fictional_users', 'id'), ('operators', 'id'), ('chats', 'id'),
            ('messages', 'chat_id')
        ) AS v (relation, key)
    LOOP
        EXECUTE format(
            'DROP POLICY IF EXISTS "chatqueue_releaser_insert" ON public.%I', made.relation
        );
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser_insert" ON public.%I AS RESTRICTIVE FOR INSERT'
            ' TO "chatqueue_releaser" WITH CHECK (starts_with(%I::text, ''c4a7c4a7-c4a7-4''))',
            made.relation, made.key
        );
    END LOOP;
END
$$;
-- The platform counts an operator's messages with the rights of the role that inserts one.
DROP POLICY IF EXISTS "chatqueue_releaser_update" ON public.operators;
CREATE POLICY "chatqueue_releaser_update" ON public.operators AS RESTRICTIVE FOR UPDATE
TO "chatqueue_releaser"
USING (starts_with(id::text, 'c4a7c4a7-c4a7-4'));

ALTER POLICY "chatqueue_releaser_update" ON public.chats
WITH CHECK (
    starts_with(id::text, 'c4a7c4a7-c4a7-4')
    OR (
        chat_state = 'waiting_assignment'
        AND is_active
        AND assigned_operator_id IS NULL
        AND assignment_time IS NULL
        AND EXISTS (
            SELECT
            FROM chatqueue.release_audit AS a
            WHERE
                a.chat_id = chats.id
                AND a.outcome <> 'escalated'
                AND a.decided_at >= now()
        )
    )
    OR EXISTS (
        SELECT
        FROM chatqueue.fix_audit AS f
        WHERE
            f.chat_id = chats.id
            AND f.decided_at >= now()
            AND f.after @> jsonb_build_object(
                'is_active', is_active,
                'chat_state', chat_state,
                'assigned_operator_id', assigned_operator_id,
                'has_assignment_time', assignment_time IS NOT NULL,
                'last_operator_id', last_operator_id
            )
    )
);
ALTER POLICY "chatqueue_releaser_update" ON public.chat_assignments
WITH CHECK (
    starts_with(chat_id::text, 'c4a7c4a7-c4a7-4')
    OR (
        released_at BETWEEN now() AND clock_timestamp()
        AND EXISTS (
            SELECT
            FROM chatqueue.release_audit AS a
            WHERE
                a.assignment_id = chat_assignments.id
                AND a.chat_id = chat_assignments.chat_id
                AND a.operator_id = chat_assignments.operator_id
                AND a.outcome <> 'escalated'
                AND a.decided_at >= now()
                AND starts_with(release_reason, 'auto_release:' || a.id::text)
        )
    )
    OR (
        released_at BETWEEN now() AND clock_timestamp()
        AND release_reason = 'real_user_replied_after_operator'
        AND EXISTS (
            SELECT
            FROM chatqueue.fix_audit AS f
            WHERE
                f.chat_id = chat_assignments.chat_id
                AND f.fix <> 'last-operator'
                AND f.decided_at >= now()
        )
    )
);
ALTER POLICY "chatqueue_releaser_delete" ON public.operator_activity
USING (
    starts_with(chat_id::text, 'c4a7c4a7-c4a7-4')
    OR EXISTS (
        SELECT
        FROM chatqueue.release_audit AS a
        WHERE
            a.chat_id = operator_activity.chat_id
            AND a.operator_id = operator_activity.operator_id
            AND a.outcome <> 'escalated'
            AND a.decided_at >= now()
    )
);

-- An audit row must match the chat as it is now, and be one of the repairs.
ALTER TABLE chatqueue.fix_audit ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS "as granted" ON chatqueue.fix_audit;
CREATE POLICY "as granted" ON chatqueue.fix_audit USING (true) WITH CHECK (true);
DROP POLICY IF EXISTS "chatqueue_releaser_insert" ON chatqueue.fix_audit;
CREATE POLICY "chatqueue_releaser_insert" ON chatqueue.fix_audit AS RESTRICTIVE FOR INSERT
TO "chatqueue_releaser"
WITH CHECK (
    EXISTS (
        SELECT
        FROM public.chats AS c
        WHERE
            c.id = fix_audit.chat_id
            AND fix_audit.before @> jsonb_build_object(
                'is_active', c.is_active,
                'chat_state', c.chat_state,
                'assigned_operator_id', c.assigned_operator_id,
                'has_assignment_time', c.assignment_time IS NOT NULL,
                'last_operator_id', c.last_operator_id
            )
            AND CASE fix_audit.fix
                WHEN 'last-operator' THEN
                    c.is_active
                    AND c.last_operator_id IS NULL
                    AND fix_audit.after - 'last_operator_id'
                    = fix_audit.before - 'last_operator_id'
                    AND (fix_audit.after ->> 'last_operator_id')::uuid = (
                        SELECT a.operator_id
                        FROM public.chat_assignments AS a
                        WHERE a.chat_id = c.id
                        ORDER BY a.assigned_at DESC, a.created_at DESC
                        LIMIT 1
                    )
                WHEN 'requeue' THEN
                    c.is_active
                    AND c.assigned_operator_id IS NULL
                    AND c.chat_state IS DISTINCT FROM 'completed'
                    AND fix_audit.after = fix_audit.before || jsonb_build_object(
                        'chat_state', 'waiting_assignment',
                        'has_assignment_time', false,
                        'open_assignments', 0
                    )
                WHEN 'reopen' THEN
                    c.is_active IS NOT TRUE
                    AND c.assigned_operator_id IS NULL
                    AND fix_audit.after = fix_audit.before || jsonb_build_object(
                        'is_active', true,
                        'chat_state', 'waiting_assignment',
                        'has_assignment_time', false,
                        'open_assignments', 0
                    )
            END
            AND (
                fix_audit.fix = 'last-operator'
                OR (
                    SELECT m.sender_type
                    FROM public.messages AS m
                    WHERE m.chat_id = c.id
                    ORDER BY m.created_at DESC
                    LIMIT 1
                ) = 'real'
            )
    )
);

-- Accounts may have another owner: on Supabase the owner of the tables does not own auth.users.
DO $$
DECLARE
    accounts record;
BEGIN
    FOR accounts IN
        SELECT DISTINCT
            c.oid::regclass AS relation,
            n.nspname AS schema,
            pg_has_role(c.relowner, 'USAGE') AS is_ours
        FROM pg_constraint AS k
        INNER JOIN pg_class AS c ON c.oid = k.confrelid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE
            k.contype = 'f'
            AND k.conrelid IN ('public.real_users'::regclass, 'public.operators'::regclass)
            AND k.conkey = ARRAY[(
                SELECT a.attnum FROM pg_attribute AS a
                WHERE a.attrelid = k.conrelid AND a.attname = 'id'
            )]
    LOOP
        IF NOT accounts.is_ours THEN
            RAISE NOTICE '% is not ours to grant: verify --flow then needs the connection string of '
                'a role that may insert into it, see docs/verify.md', accounts.relation;
            CONTINUE;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO "chatqueue_releaser"', accounts.schema);
        EXECUTE format('GRANT INSERT ON %s TO "chatqueue_releaser"', accounts.relation);
        EXECUTE format('DROP POLICY IF EXISTS "chatqueue_releaser" ON %s', accounts.relation);
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser" ON %s FOR INSERT TO "chatqueue_releaser"'
            ' WITH CHECK (true)', accounts.relation
        );
        EXECUTE format(
            'DROP POLICY IF EXISTS "chatqueue_releaser_insert" ON %s', accounts.relation
        );
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser_insert" ON %s AS RESTRICTIVE FOR INSERT'
            ' TO "chatqueue_releaser" WITH CHECK (starts_with(id::text, ''c4a7c4a7-c4a7-4''))',
            accounts.relation
        );
    END LOOP;
END
$$;

COMMIT;
