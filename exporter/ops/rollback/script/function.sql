(
        SELECT oid
        FROM pg_proc
        WHERE
            pronamespace = 'public'::regnamespace
            AND proname = {object}
            AND pg_get_function_arguments(oid) || ' -> '
                || coalesce(pg_get_function_result(oid), '') = {signature}
    )
