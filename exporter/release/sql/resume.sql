UPDATE chatqueue.release_control
SET paused_until = NULL, pause_reason = NULL, paused_by = NULL
RETURNING only_row
