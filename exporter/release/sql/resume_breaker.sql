UPDATE chatqueue.release_control
SET tripped_at = NULL, healthy_since = NULL, healthy_at = NULL
RETURNING only_row
