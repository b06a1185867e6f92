INSERT INTO chatqueue.fix_audit (id, fix, chat_id, actor, reason, before, after)
VALUES (
    %(id)s, %(fix)s, %(chat)s, %(actor)s, %(reason)s, %(before)s::jsonb, %(after)s::jsonb
)
