SELECT outcome
FROM chatqueue.release_audit
WHERE id = %(id)s
