DO $chatqueue$
DECLARE
    v_object oid := {oid};
    v_grantee text;
BEGIN
    FOR v_grantee IN
        SELECT DISTINCT
            CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END
        FROM aclexplode(({acl} WHERE oid = v_object)) AS e
    LOOP
        EXECUTE {revoke} || v_grantee;
    END LOOP;
END;
$chatqueue$;
