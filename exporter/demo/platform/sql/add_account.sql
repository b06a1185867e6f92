-- An account with the host; operators and users have one.
INSERT INTO auth.users (id, email) VALUES (%(id)s, %(id)s::uuid || '@example.test')
ON CONFLICT (id) DO NOTHING
