UPDATE chatqueue.release_control
SET
    tripped_at = to_timestamp(%(tripped_at_s)s),
    healthy_since = to_timestamp(%(healthy_since_s)s),
    healthy_at = to_timestamp(%(healthy_at_s)s)
RETURNING tripped_at
