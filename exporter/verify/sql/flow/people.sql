-- Three users, a persona and an operator of the flow's own; nobody else ever sees them.
WITH users AS (
    INSERT INTO public.real_users (id, name)
    SELECT u.id, 'chatqueue verify' FROM unnest(%(users)s::uuid []) AS u (id)
    RETURNING id
),

persona AS (
    INSERT INTO public.fictional_users (id, name)
    VALUES (%(persona)s, 'chatqueue verify')
    RETURNING id
)

INSERT INTO public.operators (id, name, email, is_active, is_available)
VALUES (
    %(operator)s, 'chatqueue verify', 'verify-' || %(operator)s::text || '@invalid', true, true
)
RETURNING id
