-- The role of `release_dsn`: what one release touches, and nothing beyond. Install the schema
-- chatqueue first (`chatqueue install --apply`), then run this as the owner of the tables (on
-- Supabase: postgres), and set the role's password:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f releaser.sql
--     psql "$DATABASE_URL" -c '\password chatqueue_releaser'
--
-- It can be run again at any time: it is one transaction, which gives up after 3 s rather than make
-- the application wait for a lock. `chatqueue grants` prints it with another role name.
--
-- release_and_reassign_chat runs with the rights of its caller, so the role has those it needs. The
-- platform's own policies for PUBLIC would then let it write to every row, because permissive
-- policies are OR-ed: so RESTRICTIVE policies limit the role. Whatever the program does, the server
-- lets it release only an assigned chat for which an audit row written in the same transaction
-- names the chat, its operator and that operator's open assignment. It cannot close a chat or assign one
-- to an operator. For `chatqueue release --close`:
--     GRANT UPDATE (is_active) ON public.chats TO "chatqueue_releaser";
--     ALTER POLICY "chatqueue_releaser_update" ON public.chats WITH CHECK (
--         assigned_operator_id IS NULL AND assignment_time IS NULL
--         AND EXISTS (
--             SELECT FROM chatqueue.release_audit AS a
--             WHERE a.chat_id = chats.id AND a.decided_at >= now()
--             AND CASE a.outcome
--                 WHEN 'closed' THEN chat_state = 'completed' AND NOT is_active
--                 WHEN 'escalated' THEN false
--                 ELSE chat_state = 'waiting_assignment' AND is_active
--             END));
-- The role may also do what PUBLIC may do: PUBLIC may execute functions unless that was revoked,
-- and assign_chat_to_operator runs as its owner. To prevent that, grant it to the application's own
-- roles, and then
--     REVOKE EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid) FROM PUBLIC;
BEGIN;
SET LOCAL lock_timeout = '3s';
-- On a first run there would be a notice for every policy that does not exist yet.
SET LOCAL client_min_messages = 'warning';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chatqueue_releaser') THEN
        CREATE ROLE "chatqueue_releaser" LOGIN CONNECTION LIMIT 5;
    END IF;
    IF EXISTS (
        SELECT FROM pg_roles AS r
        WHERE
            r.rolname = 'chatqueue_releaser'
            AND (
                r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                OR r.rolbypassrls OR NOT r.rolcanlogin
                OR EXISTS (SELECT FROM pg_class AS c WHERE c.relowner = r.oid)
                OR EXISTS (
                    SELECT FROM pg_auth_members AS m
                    WHERE m.member = r.oid AND m.roleid::regrole::text NOT LIKE 'pg\_%'
                )
            )
    ) THEN
        RAISE EXCEPTION
            'role chatqueue_releaser has other rights or work, expected a role of its own';
    END IF;
END
$$;

-- First revoke what an earlier version or a person granted: rights, column rights and policies.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT DISTINCT 'TABLE ' || c.oid::regclass AS object
        FROM pg_class AS c
        CROSS JOIN LATERAL (
            SELECT c.relacl AS acl
            UNION ALL
            SELECT a.attacl FROM pg_attribute AS a WHERE a.attrelid = c.oid
        ) AS t
        CROSS JOIN LATERAL aclexplode(t.acl) AS g
        WHERE
            g.grantee = '"chatqueue_releaser"'::regrole
            AND pg_has_role(c.relowner, 'USAGE')
        UNION ALL
        SELECT 'FUNCTION ' || p.oid::regprocedure
        FROM pg_proc AS p
        CROSS JOIN LATERAL aclexplode(p.proacl) AS g
        WHERE
            g.grantee = '"chatqueue_releaser"'::regrole
            AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM "chatqueue_releaser"', given.object);
    END LOOP;
    FOR given IN
        SELECT p.polname AS name, p.polrelid::regclass AS relation
        FROM pg_policy AS p
        INNER JOIN pg_class AS c ON c.oid = p.polrelid
        WHERE
            p.polroles = ARRAY['"chatqueue_releaser"'::regrole::oid]
            AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', given.name, given.relation);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO "chatqueue_releaser";

-- `updated_at` is stamped by the platform's trigger whatever is written to it.
GRANT
    SELECT (
        id, is_active, chat_state, assigned_operator_id, assignment_time, last_operator_id,
        updated_at
    ),
    UPDATE (chat_state, assigned_operator_id, assignment_time, updated_at)
ON public.chats TO "chatqueue_releaser";
GRANT
    SELECT (id, chat_id, operator_id, assigned_at, released_at, release_reason, created_at),
    UPDATE (released_at, release_reason)
ON public.chat_assignments TO "chatqueue_releaser";
-- A row lock needs the right to update a column; the policy rejects every update itself.
GRANT
    SELECT (id, chat_id, operator_id, last_activity, updated_at),
    UPDATE (updated_at),
    DELETE
ON public.operator_activity TO "chatqueue_releaser";
GRANT SELECT (chat_id, sender_type, handled_by_operator_id, created_at)
ON public.messages TO "chatqueue_releaser";
GRANT SELECT (id, is_active, is_available) ON public.operators TO "chatqueue_releaser";
GRANT SELECT (key, value) ON public.platform_config TO "chatqueue_releaser";

GRANT EXECUTE ON FUNCTION public.release_and_reassign_chat(uuid, text) TO "chatqueue_releaser";

-- Under row-level security a role without a policy sees no rows, and gets no error. This policy is
-- simply true, so that the server never evaluates the platform's own, which read tables that this
-- role may not (`admins`). The policies that limit the role follow below.
DO $$
DECLARE
    watched text;
BEGIN
    FOREACH watched IN ARRAY ARRAY[
        'chats', 'operators', 'messages', 'chat_assignments', 'operator_activity',
        'platform_config'
    ]
    LOOP
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser" ON public.%I TO "chatqueue_releaser"'
            ' USING (true) WITH CHECK (true)',
            watched
        );
    END LOOP;
END
$$;

-- A lock is taken before the audit row is written: USING of an UPDATE applies to it and is
-- therefore permissive; WITH CHECK applies to the updated row.
DO $$
DECLARE
    has_audit boolean := to_regclass('chatqueue.release_audit') IS NOT NULL;
    -- Without the schema chatqueue the role can only do dry runs, and there is no audit to check.
    old_rows text := CASE
        WHEN has_audit THEN 'true'
        ELSE 'is_active AND chat_state = ''assigned'''
    END;
    audited text := CASE
        WHEN NOT has_audit THEN 'true'
        ELSE
            'EXISTS (SELECT FROM chatqueue.release_audit AS a WHERE'
            ' a.outcome <> ''escalated'' AND a.decided_at >= now() AND %s)'
    END;
BEGIN
    EXECUTE
        'CREATE POLICY "chatqueue_releaser_update" ON public.chats AS RESTRICTIVE FOR UPDATE'
        ' TO "chatqueue_releaser" USING (' || old_rows || ') WITH CHECK ('
        '     chat_state = ''waiting_assignment'' AND is_active'
        '     AND assigned_operator_id IS NULL AND assignment_time IS NULL AND '
        || format(audited, 'a.chat_id = chats.id') || ')';
    EXECUTE
        'CREATE POLICY "chatqueue_releaser_update" ON public.chat_assignments'
        ' AS RESTRICTIVE FOR UPDATE TO "chatqueue_releaser" USING (released_at IS NULL)'
        ' WITH CHECK ('
        '     released_at BETWEEN now() AND clock_timestamp()'
        '     AND starts_with(release_reason, ''auto_release:'') AND '
        || format(
            audited,
            'a.assignment_id = chat_assignments.id AND a.chat_id = chat_assignments.chat_id'
            ' AND a.operator_id = chat_assignments.operator_id'
            ' AND starts_with(release_reason, ''auto_release:'' || a.id::text)'
        ) || ')';
    EXECUTE
        'CREATE POLICY "chatqueue_releaser_delete" ON public.operator_activity'
        ' AS RESTRICTIVE FOR DELETE TO "chatqueue_releaser" USING ('
        || format(
            audited,
            'a.chat_id = operator_activity.chat_id'
            ' AND a.operator_id = operator_activity.operator_id'
        ) || ')';
END
$$;
CREATE POLICY "chatqueue_releaser_update" ON public.operator_activity AS RESTRICTIVE FOR UPDATE
TO "chatqueue_releaser"
USING (true)
WITH CHECK (false);

-- The schema chatqueue. Only the owner may change the limit for all daemons (`mode_cap`) and the
-- audit rows already written.
DO $$
DECLARE
    own text;
BEGIN
    IF to_regclass('chatqueue.release_control') IS NULL THEN
        RAISE WARNING 'the schema chatqueue is not installed, so this role can only observe; run '
            'this again after chatqueue install --apply';
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA chatqueue TO "chatqueue_releaser";
    GRANT SELECT ON ALL TABLES IN SCHEMA chatqueue TO "chatqueue_releaser";
    GRANT UPDATE (
        paused_until, pause_reason, paused_by, tripped_at, healthy_since, healthy_at, tokens,
        tokens_at
    ) ON chatqueue.release_control TO "chatqueue_releaser";
    GRANT INSERT (
        id, assignment_id, chat_id, operator_id, outcome, actor, daemon, policy, config_hash,
        overrides, evidence
    ) ON chatqueue.release_audit TO "chatqueue_releaser";
    GRANT
        INSERT (kind, subject, until, created_by, reason),
        UPDATE (until, created_at, created_by, reason)
    ON chatqueue.release_exemption TO "chatqueue_releaser";
    IF to_regclass('chatqueue.watch') IS NOT NULL THEN
        GRANT
            INSERT (started_at, ends_at, rollback_until, actor),
            UPDATE (stopped_at, stopped_by)
        ON chatqueue.watch TO "chatqueue_releaser";
    END IF;
    -- They have an effect only where row-level security was switched on here too.
    FOREACH own IN ARRAY ARRAY[
        'schema_version', 'release_control', 'release_audit', 'release_exemption'
    ]
    LOOP
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser" ON chatqueue.%I TO "chatqueue_releaser"'
            ' USING (true) WITH CHECK (true)',
            own
        );
    END LOOP;
    -- The audit is limited like the platform's tables; for every other role only the grants apply.
    ALTER TABLE chatqueue.release_audit ENABLE ROW LEVEL SECURITY;
    DROP POLICY IF EXISTS "as granted" ON chatqueue.release_audit;
    CREATE POLICY "as granted" ON chatqueue.release_audit USING (true) WITH CHECK (true);
    CREATE POLICY "chatqueue_releaser_insert" ON chatqueue.release_audit
    AS RESTRICTIVE FOR INSERT TO "chatqueue_releaser"
    WITH CHECK (
        outcome = 'escalated'
        OR EXISTS (
            SELECT
            FROM public.chats AS c
            INNER JOIN public.chat_assignments AS o
                ON o.chat_id = c.id AND o.operator_id = c.assigned_operator_id
            WHERE
                c.id = release_audit.chat_id
                AND c.is_active
                AND c.chat_state = 'assigned'
                AND o.id = release_audit.assignment_id
                AND o.operator_id = release_audit.operator_id
                AND o.released_at IS NULL
        )
    );
END
$$;

COMMIT;
