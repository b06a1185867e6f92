-- What our own tables say of one chat, its operator and its assignment.
SELECT
    (
        SELECT
            e.kind || ' until ' || to_char(e.until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
            || ' by ' || e.created_by || ': ' || e.reason
        FROM chatqueue.release_exemption AS e
        WHERE
            e.until > statement_timestamp()
            AND (
                (e.kind = 'chat' AND e.subject = %(chat)s)
                OR (e.kind = 'operator' AND e.subject = %(operator)s)
            )
        ORDER BY e.until DESC
        LIMIT 1
    ) AS exemption,
    (
        SELECT count(*)::integer
        FROM chatqueue.release_audit AS a
        WHERE a.assignment_id = %(assignment)s AND a.outcome <> 'escalated'
    ) AS assignment_releases,
    (
        SELECT extract(EPOCH FROM max(a.decided_at))::double precision
        FROM chatqueue.release_audit AS a
        WHERE a.chat_id = %(chat)s AND a.outcome <> 'escalated'
    ) AS last_release_s,
    (
        SELECT count(*)::integer
        FROM chatqueue.release_audit AS a
        WHERE
            a.chat_id = %(chat)s
            AND a.outcome <> 'escalated'
            AND a.decided_at > statement_timestamp() - make_interval(secs => %(window_s)s)
    ) AS releases_in_window
