SELECT public.release_and_reassign_chat(%(chat)s, %(reason)s) AS requeued
