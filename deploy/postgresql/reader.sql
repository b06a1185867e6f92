-- The role that reads: the minimum rights on the platform's database. Run it as the owner of the
-- tables (on Supabase: postgres), then set the role's password:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f reader.sql
--     psql "$DATABASE_URL" -c '\password chatqueue_reader'
--
-- It can be run again at any time: it is one transaction, which gives up after 3 s rather than make
-- the application wait for a lock. `chatqueue grants` prints it with another role name.
-- The role reads single columns, never a message's text, an operator's address or who a user is;
-- it has no right to write, and its transactions are read-only by default.
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
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chatqueue_reader') THEN
        CREATE ROLE "chatqueue_reader" LOGIN CONNECTION LIMIT 5;
    END IF;
    IF EXISTS (
        SELECT FROM pg_roles AS r
        WHERE
            r.rolname = 'chatqueue_reader'
            AND (
                r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                OR NOT r.rolcanlogin
                OR EXISTS (SELECT FROM pg_class AS c WHERE c.relowner = r.oid)
                OR EXISTS (
                    SELECT FROM pg_auth_members AS m
                    WHERE m.member = r.oid AND m.roleid::regrole::text NOT LIKE 'pg\_%'
                )
            )
    ) THEN
        RAISE EXCEPTION 'role chatqueue_reader has other rights or work, expected a role of its own';
    END IF;
END
$$;

ALTER ROLE "chatqueue_reader" SET default_transaction_read_only = on;
ALTER ROLE "chatqueue_reader" SET statement_timeout = '30s';

GRANT USAGE ON SCHEMA public TO "chatqueue_reader";

GRANT SELECT (
    id, real_user_id, is_active, chat_state, created_at, updated_at, last_message_at,
    assigned_operator_id, assignment_time, last_operator_id, operator_replied_at, message_count
) ON public.chats TO "chatqueue_reader";
GRANT SELECT (id, name, is_active, is_available, last_activity, created_at)
ON public.operators TO "chatqueue_reader";
GRANT SELECT (id, chat_id, sender_type, handled_by_operator_id, created_at)
ON public.messages TO "chatqueue_reader";
GRANT SELECT (id, is_active, updated_at) ON public.real_users TO "chatqueue_reader";
GRANT SELECT ON public.chat_assignments TO "chatqueue_reader";
GRANT SELECT ON public.operator_activity TO "chatqueue_reader";
GRANT SELECT ON public.platform_config TO "chatqueue_reader";
GRANT SELECT ON public.chat_state_summary TO "chatqueue_reader";

GRANT EXECUTE ON FUNCTION public.get_assignment_queue_status() TO "chatqueue_reader";
GRANT EXECUTE ON FUNCTION public.detect_stuck_chats(integer) TO "chatqueue_reader";

-- Under row-level security a role without a policy sees no rows, and gets no error.
DO $$
DECLARE
    watched text;
BEGIN
    FOREACH watched IN ARRAY ARRAY[
        'chats', 'operators', 'messages', 'chat_assignments', 'operator_activity',
        'platform_config', 'real_users'
    ]
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS "chatqueue_reader" ON public.%I', watched);
        EXECUTE format(
            'CREATE POLICY "chatqueue_reader" ON public.%I FOR SELECT TO "chatqueue_reader"'
            ' USING (true)',
            watched
        );
    END LOOP;
END
$$;

COMMIT;
