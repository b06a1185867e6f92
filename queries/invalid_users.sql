-- Users who are shut out although no admin decided it, and users who were shut out and are not.
--
-- Purpose: as invalid_chats. closed_but_written_to: the application does not ask whether a chat is
--          active when its user writes. The message is paid for and not seen, and the user
--          can open no other chat with the same persona. It counts where the user wrote last,
--          within a day, after the chat's end. The platform keeps no time of that: the end is the
--          last release or later. Where the chat was in the queue or assigned, it may have been
--          closed on a user who was waiting, which somebody decided: there the message counts only
--          if the chat's last write (updated_at, which every message moves) is the message's own
--          or follows it by less than 10 s, as the application's does. A chat that a release closed
--          (max reassignments) has an end that is known. A blocked user's messages do not count.
--          active_chat_of_blocked_user: a user was blocked, and his chats could not be closed with
--          him: they stay in the queue or with an operator.
-- Reads:   public.messages, public.chats, public.chat_assignments, public.real_users.
-- Cost:    the users' messages of the last day (index on created_at) with a look-up each, and one
--          pass over the users; about 0.16 s at 1,000,000 chats, hence every 60 s.
WITH setting AS (
    SELECT
        now() - %(checks_grace)s::double precision * interval '1 second' AS settled,
        now() + interval '1 minute' AS future
),

written AS (
    SELECT
        m.chat_id,
        max(m.created_at) AS at
    FROM public.messages AS m
    WHERE m.created_at > now() - interval '1 day' AND m.sender_type = 'real'
    GROUP BY m.chat_id
),

shut_out AS (
    SELECT c.id
    FROM setting AS s
    CROSS JOIN written AS w
    INNER JOIN public.chats AS c ON c.id = w.chat_id AND c.is_active IS NOT TRUE
    LEFT JOIN LATERAL (
        SELECT
            a.released_at AS at,
            a.release_reason AS reason
        FROM public.chat_assignments AS a
        WHERE
            a.chat_id = c.id AND a.released_at > '-infinity' AND a.released_at <= s.future
        ORDER BY a.released_at DESC
        LIMIT 1
    ) AS released ON true
    WHERE
        (w.at BETWEEN s.settled AND s.future) IS NOT TRUE
        AND (w.at <= released.at) IS NOT TRUE
        AND (
            coalesce(c.chat_state, '') NOT IN ('waiting_assignment', 'assigned')
            OR released.reason LIKE '%% - max reassignments reached'
            OR c.updated_at <= w.at + interval '10 seconds'
        )
        AND NOT EXISTS (
            SELECT 1
            FROM public.messages AS m
            WHERE
                m.chat_id = c.id
                AND m.sender_type = 'fictional'
                AND m.created_at > w.at
                AND m.created_at <= s.future
            OFFSET 0
        )
        AND NOT EXISTS (
            SELECT 1
            FROM public.real_users AS u
            WHERE u.id = c.real_user_id AND NOT u.is_active
            OFFSET 0
        )
),

contradictions AS (
    SELECT
        o.id AS chat_id,
        'closed_but_written_to' AS name
    FROM shut_out AS o
    UNION ALL
    SELECT
        c.id AS chat_id,
        'active_chat_of_blocked_user' AS name
    FROM setting AS s
    CROSS JOIN public.real_users AS u
    INNER JOIN public.chats AS c ON c.real_user_id = u.id AND c.is_active
    WHERE NOT u.is_active AND (u.updated_at BETWEEN s.settled AND s.future) IS NOT TRUE
)

SELECT
    count(*) FILTER (WHERE k.name = 'closed_but_written_to') AS closed_but_written_to,
    count(*) FILTER (WHERE k.name = 'active_chat_of_blocked_user') AS active_chat_of_blocked_user
FROM contradictions AS k
