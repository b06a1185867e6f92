-- The role of `release_dsn`: what one release touches, and nothing beyond. Install the schema
-- chatqueue first (`chatqueue install --apply`), then run this as the owner of the tables (on
-- Supabase: postgres), and give the role a password of your own:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f releaser.sql
--     psql "$DATABASE_URL" -c '\password chatqueue_releaser'
--
-- It can be run again at any time: all of it is done or nothing, and it gives up after 3 s rather
-- than make the application wait for a lock. `chatqueue grants` prints it with a name of your own.
--
-- release_and_reassign_chat runs with the rights of its caller, so the role has those it needs. The
-- server itself then keeps the role from closing a chat, from giving one to an operator, and from
-- any reason but `auto_release:…`, whatever the program does. For `chatqueue release --close`:
--     GRANT UPDATE (is_active) ON public.chats TO "chatqueue_releaser";
--     ALTER POLICY "chatqueue_releaser_update" ON public.chats WITH CHECK (
--         assigned_operator_id IS NULL
--         AND ((chat_state = 'waiting_assignment' AND is_active)
--              OR (chat_state = 'completed' AND NOT is_active)));
-- What PUBLIC may do, it may do too: functions are executable by PUBLIC unless that was revoked, and
-- assign_chat_to_operator runs as its owner. To be strict, grant it to the application's own roles,
-- and then
--     REVOKE EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid) FROM PUBLIC;
BEGIN;
SET LOCAL lock_timeout = '3s';
-- A first run would say of every policy that there is none yet to drop.
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

-- What an earlier version or a hand gave goes first, column rights included.
REVOKE ALL ON
    public.chats, public.chat_assignments, public.operator_activity, public.messages,
    public.operators, public.platform_config
FROM "chatqueue_releaser";

GRANT USAGE ON SCHEMA public TO "chatqueue_releaser";

-- `updated_at` is stamped by the platform's trigger whatever is written to it.
GRANT
    SELECT (id, is_active, chat_state, assigned_operator_id, assignment_time),
    UPDATE (chat_state, assigned_operator_id, assignment_time, updated_at)
ON public.chats TO "chatqueue_releaser";
GRANT
    SELECT (id, chat_id, operator_id, assigned_at, released_at, release_reason),
    UPDATE (released_at, release_reason)
ON public.chat_assignments TO "chatqueue_releaser";
-- A row lock needs the right to update a column; the policy below lets no update through.
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

-- Row-level security shows a role without a policy no rows at all, and no error either.
DO $$
DECLARE
    watched text;
BEGIN
    FOREACH watched IN ARRAY ARRAY[
        'chats', 'operators', 'messages', 'chat_assignments', 'operator_activity',
        'platform_config'
    ]
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS "chatqueue_releaser_select" ON public.%I', watched);
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser_select" ON public.%I FOR SELECT'
            ' TO "chatqueue_releaser" USING (true)',
            watched
        );
    END LOOP;
END
$$;
DROP POLICY IF EXISTS "chatqueue_releaser_update" ON public.chats;
CREATE POLICY "chatqueue_releaser_update" ON public.chats FOR UPDATE TO "chatqueue_releaser"
USING (true)
WITH CHECK (
    chat_state = 'waiting_assignment'
    AND is_active
    AND assigned_operator_id IS NULL
    AND assignment_time IS NULL
);
DROP POLICY IF EXISTS "chatqueue_releaser_update" ON public.chat_assignments;
CREATE POLICY "chatqueue_releaser_update" ON public.chat_assignments FOR UPDATE
TO "chatqueue_releaser"
USING (released_at IS NULL)
WITH CHECK (released_at IS NOT NULL AND release_reason LIKE 'auto\_release:%');
DROP POLICY IF EXISTS "chatqueue_releaser_update" ON public.operator_activity;
CREATE POLICY "chatqueue_releaser_update" ON public.operator_activity FOR UPDATE
TO "chatqueue_releaser"
USING (true)
WITH CHECK (false);
DROP POLICY IF EXISTS "chatqueue_releaser_delete" ON public.operator_activity;
CREATE POLICY "chatqueue_releaser_delete" ON public.operator_activity FOR DELETE
TO "chatqueue_releaser"
USING (true);

-- Our own schema. The most that any daemon may do (`mode_cap`) stays the owner's to change, and so
-- does every row of the audit that was once written.
DO $$
DECLARE
    own text;
BEGIN
    IF to_regclass('chatqueue.release_control') IS NULL THEN
        RAISE WARNING 'the schema chatqueue is not installed, so this role can only observe; run '
            'this again after chatqueue install --apply';
        RETURN;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA chatqueue FROM "chatqueue_releaser";
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
    -- They open nothing unless somebody has switched row-level security on here too.
    FOREACH own IN ARRAY ARRAY[
        'schema_version', 'release_control', 'release_audit', 'release_exemption'
    ]
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS "chatqueue_releaser" ON chatqueue.%I', own);
        EXECUTE format(
            'CREATE POLICY "chatqueue_releaser" ON chatqueue.%I TO "chatqueue_releaser"'
            ' USING (true) WITH CHECK (true)',
            own
        );
    END LOOP;
END
$$;

COMMIT;
