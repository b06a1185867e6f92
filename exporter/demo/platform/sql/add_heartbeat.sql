INSERT INTO public.operator_activity (chat_id, operator_id, last_activity)
VALUES (
    %(chat)s, %(operator)s, now() - make_interval(secs => %(ago_s)s)
)
