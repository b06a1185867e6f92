INSERT INTO chatqueue.release_audit (
    id, assignment_id, chat_id, operator_id, outcome, actor, daemon,
    policy, config_hash, overrides, evidence
)
VALUES (
    %(id)s, %(assignment)s, %(chat)s, %(operator)s, %(outcome)s, %(actor)s, %(daemon)s,
    %(policy)s, %(config_hash)s, %(overrides)s, %(evidence)s::jsonb
)
