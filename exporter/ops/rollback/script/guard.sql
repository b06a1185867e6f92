
-- Only in the database that the plan was made for, and only where each object is either as it was
-- before the fix or as the fix makes it.
DO $chatqueue$
DECLARE
    v_system text;
    v_strange text;
    v_count integer;
BEGIN
    IF current_database() <> {database} THEN
        RAISE EXCEPTION 'this plan was made for database %, this is %; nothing was changed',
            {database}, current_database();
    END IF;
    IF {system} IS NOT NULL
        AND has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
    THEN
        SELECT system_identifier::text INTO v_system FROM pg_control_system();
        IF v_system <> {system} THEN
            RAISE EXCEPTION 'this plan was made on another server (system identifier %, here %); '
                'nothing was changed', {system}, v_system;
        END IF;
    END IF;
    SELECT
        string_agg(format('%s %s is %s', c.kind, c.name, c.found), '; ' ORDER BY c.kind, c.name)
            FILTER (WHERE NOT c.ok AND c.found <> b.found),
        count(*) FILTER (WHERE c.found <> b.found AND NOT ({is_kept} AND c.kind = 'column'))
    INTO v_strange, v_count
    FROM pg_temp.chatqueue_contract AS c
    INNER JOIN pg_temp.chatqueue_before AS b ON b.kind = c.kind AND b.name = c.name;
    IF v_strange IS NOT NULL THEN
        RAISE EXCEPTION 'neither as before the fix nor as the fix makes it: %; nothing was changed',
            v_strange;
    END IF;
    IF v_count = 0 THEN
        RAISE EXCEPTION 'the fix is not here: there is nothing to roll back';
    END IF;
END;
$chatqueue$;
