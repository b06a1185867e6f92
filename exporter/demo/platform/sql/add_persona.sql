INSERT INTO public.fictional_users (id, name, age, gender, location)
VALUES (%(id)s, 'Persona', 25, 'female', 'Mombasa')
ON CONFLICT (id) DO NOTHING
