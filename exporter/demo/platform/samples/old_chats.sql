-- A platform from before the fix, with chatqueue.chats chats of three messages each: most were
-- answered, one in a hundred waits, and each of twenty operators has one.
--
-- As a restored backup: no trigger fires.
SET LOCAL session_replication_role = replica;

CREATE TEMPORARY TABLE numbers ON COMMIT DROP AS
SELECT
    number,
    gen_random_uuid() AS chat,
    gen_random_uuid() AS person,
    now() - make_interval(mins => 60 + number % 40000) AS began_at
FROM generate_series(1, current_setting('chatqueue.chats')::integer) AS number;
CREATE TEMPORARY TABLE staff ON COMMIT DROP AS
SELECT number, gen_random_uuid() AS operator FROM generate_series(1, 20) AS number;

INSERT INTO auth.users (id) SELECT person FROM numbers UNION ALL SELECT operator FROM staff;
INSERT INTO public.operators (id, name, email, is_available)
SELECT operator, 'Old operator ' || number, 'old-operator-' || number || '@example.test', true FROM staff;
INSERT INTO public.real_users
    (id, name, display_name, email, location, gender, looking_for, age)
SELECT
    person,
    'user-' || number,
    'User',
    'user-' || number || '@example.test',
    'Somewhere',
    'female',
    'male',
    30
FROM numbers;
INSERT INTO public.fictional_users (id, name, age, gender, location, is_active)
VALUES ('00000000-0000-4000-8000-000000000001', 'Persona', 30, 'male', 'Somewhere', true);

INSERT INTO public.chats (
    id, real_user_id, fictional_user_id, message_count, last_message_at, assigned_operator_id,
    assignment_time, created_at, updated_at
)
SELECT
    n.chat,
    n.person,
    '00000000-0000-4000-8000-000000000001',
    3,
    n.began_at + make_interval(mins => 30),
    s.operator,
    CASE WHEN s.operator IS NOT NULL THEN now() END,
    n.began_at,
    n.began_at + make_interval(mins => 30)
FROM numbers AS n
LEFT JOIN staff AS s ON s.number = n.number;
INSERT INTO public.chat_assignments
    (chat_id, operator_id, assigned_at, released_at, release_reason, created_at)
SELECT
    n.chat,
    s.operator,
    n.began_at + make_interval(mins => 5),
    n.began_at + make_interval(mins => 10),
    'operator_sent_message',
    n.began_at + make_interval(mins => 5)
FROM numbers AS n
INNER JOIN staff AS s ON s.number = n.number % 20 + 1;
INSERT INTO public.chat_assignments (chat_id, operator_id)
SELECT n.chat, s.operator FROM numbers AS n INNER JOIN staff AS s ON s.number = n.number;
INSERT INTO public.operator_activity (chat_id, operator_id)
SELECT n.chat, s.operator FROM numbers AS n INNER JOIN staff AS s ON s.number = n.number;
-- The user, the operator, and then one or the other.
INSERT INTO public.messages (chat_id, sender_type, content, handled_by_operator_id, created_at)
SELECT
    n.chat,
    CASE WHEN t.turn = 1 OR t.turn = 3 AND n.is_waiting THEN 'real' ELSE 'fictional' END,
    'Hello',
    CASE WHEN t.turn = 2 OR t.turn = 3 AND NOT n.is_waiting THEN s.operator END,
    n.began_at + make_interval(mins => t.turn * 10 - 10)
FROM (SELECT *, number <= 20 OR number % 100 = 0 AS is_waiting FROM numbers) AS n
INNER JOIN staff AS s ON s.number = n.number % 20 + 1
CROSS JOIN generate_series(1, 3) AS t (turn);
