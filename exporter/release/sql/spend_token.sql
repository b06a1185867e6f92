UPDATE chatqueue.release_control
SET tokens = %(tokens)s, tokens_at = to_timestamp(%(now_s)s)
RETURNING tokens
