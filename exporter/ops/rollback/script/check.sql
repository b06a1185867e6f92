
-- Is everything as it was? If not, nothing is changed. Then the audit, where its table is.
DO $chatqueue$
DECLARE
    v_strange text;
BEGIN
    SELECT string_agg(
        format('%s %s is %s, expected %s', c.kind, c.name, c.found, b.found), '; '
        ORDER BY c.kind, c.name
    )
    INTO v_strange
    FROM pg_temp.chatqueue_contract AS c
    INNER JOIN pg_temp.chatqueue_before AS b ON b.kind = c.kind AND b.name = c.name
    WHERE
        c.found <> b.found
        AND NOT ({is_kept} AND c.kind = 'column' AND b.found = {missing});
    IF v_strange IS NOT NULL THEN
        RAISE EXCEPTION 'not everything is as it was before the fix: %; undone', v_strange;
    END IF;
    SELECT string_agg(p.oid::regprocedure::text, ', ')
    INTO v_strange
    FROM pg_proc AS p
    WHERE
        p.pronamespace = 'public'::regnamespace
        AND p.proname = ANY ({functions})
        AND md5(p.proname || ' ' || pg_get_functiondef(p.oid)) <> ALL ({bodies});
    IF v_strange IS NOT NULL THEN
        RAISE EXCEPTION 'not the functions from before the fix: %; undone', v_strange;
    END IF;
    IF to_regclass('chatqueue.rollback_audit') IS NOT NULL THEN
        INSERT INTO chatqueue.rollback_audit (id, actor, made_at, saved_as)
        VALUES (
            gen_random_uuid(),
            coalesce(nullif(current_setting('chatqueue.actor', true), ''), session_user),
            {made_at}::timestamptz,
            {saved_as}
        );
    END IF;
END;
$chatqueue$;
