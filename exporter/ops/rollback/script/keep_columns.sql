
-- The columns of the fix stay, with what they hold. None may refuse a row of the old application.
DO $chatqueue$
DECLARE
    v_column text;
BEGIN
    FOR v_column IN
        SELECT a.attname
        FROM pg_attribute AS a
        WHERE
            a.attrelid = 'public.chats'::regclass
            AND a.attname = ANY ({new_columns})
            AND a.attnotnull
            AND NOT a.atthasdef
    LOOP
        EXECUTE format('ALTER TABLE public.chats ALTER COLUMN %I DROP NOT NULL', v_column);
    END LOOP;
END;
$chatqueue$;
