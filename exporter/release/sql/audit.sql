SELECT
    id::text AS id,
    to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS decided_at,
    outcome,
    chat_id::text AS chat,
    operator_id::text AS operator,
    assignment_id::text AS assignment,
    actor,
    daemon,
    policy,
    config_hash,
    overrides,
    evidence
FROM chatqueue.release_audit
ORDER BY decided_at DESC, id
LIMIT %(limit)s
