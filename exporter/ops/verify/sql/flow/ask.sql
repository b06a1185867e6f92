-- Where the platform gives a real user's chat, this statement fails, and the failure gives it back:
-- the server lets go of a transaction's locks when it fails, without waiting for us.
WITH asked AS MATERIALIZED (
    SELECT public.assign_chat_to_operator(%(operator)s) AS chat
)

SELECT
    CASE
        WHEN a.chat IS NULL OR a.chat = ANY(%(chats)s::uuid []) THEN a.chat
        ELSE ('not ours: ' || a.chat::text)::uuid
    END AS chat
FROM asked AS a
