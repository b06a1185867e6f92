INSERT INTO public.real_users
    (id, name, display_name, email, location, gender, looking_for, age)
SELECT
    %(id)s, 'user-' || %(id)s::uuid, 'A user', %(id)s::uuid || '@example.test',
    'Nairobi', 'male', 'female', 30
ON CONFLICT (id) DO NOTHING
