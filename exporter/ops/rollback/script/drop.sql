DO $chatqueue$
DECLARE
    v_statement text;
BEGIN
    FOR v_statement IN
        -- Triggers that call one of its functions; those from before are made again below.
        SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
        FROM pg_trigger AS t
        INNER JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE
            NOT t.tgisinternal
            AND p.pronamespace = 'public'::regnamespace
            AND p.proname = ANY ({functions})
    LOOP
        EXECUTE v_statement;
    END LOOP;
    FOR v_statement IN
        SELECT format('DROP VIEW %s', v.oid::regclass)
        FROM pg_class AS v
        WHERE
            v.relnamespace = 'public'::regnamespace
            AND v.relkind = 'v'
            AND v.relname = ANY ({views})
    LOOP
        EXECUTE v_statement;
    END LOOP;
    FOR v_statement IN
        -- Its constraints, under whatever name: those that tie a new column to an old one would
        -- refuse what the application wrote before the fix.
        SELECT format('ALTER TABLE public.chats DROP CONSTRAINT %I', k.conname)
        FROM pg_constraint AS k
        CROSS JOIN LATERAL (
            SELECT
                coalesce(bool_or(a.attname = ANY ({new_columns})), false) AS is_new,
                coalesce(bool_or(a.attname <> ALL ({new_columns})), false) AS is_old
            FROM pg_attribute AS a
            WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
        ) AS touched
        WHERE
            k.conrelid = 'public.chats'::regclass
            AND (
                touched.is_new AND touched.is_old
                OR EXISTS (
                    SELECT FROM pg_temp.chatqueue_contract AS c
                    INNER JOIN pg_temp.chatqueue_before AS b ON b.kind = c.kind AND b.name = c.name
                    WHERE c.kind = 'constraint' AND c.name = k.conname AND c.found <> b.found
                )
            )
    LOOP
        EXECUTE v_statement;
    END LOOP;
    FOR v_statement IN
        SELECT format('DROP INDEX public.%I', c.name)
        FROM pg_temp.chatqueue_contract AS c
        INNER JOIN pg_temp.chatqueue_before AS b ON b.kind = c.kind AND b.name = c.name
        WHERE c.kind = 'index' AND c.found <> b.found AND c.found <> {missing}
    LOOP
        EXECUTE v_statement;
    END LOOP;
    FOR v_statement IN
        -- Functions that were not there, and those that CREATE OR REPLACE would refuse.
        SELECT format('DROP %s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
            p.oid::regprocedure)
        FROM pg_proc AS p
        WHERE
            p.pronamespace = 'public'::regnamespace
            AND p.proname = ANY ({functions})
            AND p.proname || ' ' || pg_get_function_arguments(p.oid) || ' -> '
                || coalesce(pg_get_function_result(p.oid), '') <> ALL ({signatures})
    LOOP
        EXECUTE v_statement;
    END LOOP;
END;
$chatqueue$;
