-- What belongs to the host, as on Supabase: the accounts, the roles of its API, and who asks.

DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        -- Roles are shared by all databases of a server, and two may be set up at once.
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END;
$$;

CREATE SCHEMA auth;

CREATE TABLE auth.users (
    id uuid PRIMARY KEY,
    email text,
    encrypted_password text,
    raw_user_meta_data jsonb,
    created_at timestamptz,
    updated_at timestamptz
);
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;

-- NULL for whoever does not come through the host's API, such as the exporter.
CREATE FUNCTION auth.uid() RETURNS uuid
LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid;
$$;
