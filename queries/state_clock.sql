-- True time in the states where somebody waits for an operator.
--
-- Purpose: how long chats have really been waiting or assigned: `since` of facts/open_chats.sql says
--          from when. A chat without any message yet waits for no operator and has no age here:
--          customer_wait counts those. A chat without a usable time counts, without an age.
-- Reads:   the facts open_chats.
-- Cost:    that of the facts, which the queries of a poll share, and one pass over them.
WITH aged AS MATERIALIZED (  -- or each count below would compute the age again
    SELECT
        o.chat_id,
        o.state,
        o.since,
        o.age_seconds,
        o.age_seconds > CASE o.state
            WHEN 'assigned' THEN %(oldest_age_assigned_warning)s::double precision
            ELSE %(oldest_age_waiting_assignment_warning)s::double precision
        END AS is_overdue,
        o.age_seconds > CASE o.state
            WHEN 'assigned' THEN %(oldest_age_assigned_critical)s::double precision
            ELSE %(oldest_age_waiting_assignment_critical)s::double precision
        END AS is_critically_overdue
    FROM (
        SELECT
            f.chat_id,
            f.state,
            f.since,
            extract(EPOCH FROM now() - f.since)::double precision AS age_seconds
        FROM open_chats AS f
        WHERE NOT f.is_empty
        OFFSET 0
    ) AS o
)

SELECT
    a.state,
    coalesce(max(a.age_seconds), 0) AS oldest_age_seconds,
    coalesce(avg(a.age_seconds), 0) AS mean_age_seconds,
    count(*) FILTER (WHERE a.is_overdue) AS overdue_warning_chats,
    count(*) FILTER (WHERE a.is_critically_overdue) AS overdue_critical_chats,
    count(*) FILTER (WHERE a.age_seconds <= 15) AS at_most_15_chats,
    count(*) FILTER (WHERE a.age_seconds <= 30) AS at_most_30_chats,
    count(*) FILTER (WHERE a.age_seconds <= 60) AS at_most_60_chats,
    count(*) FILTER (WHERE a.age_seconds <= 120) AS at_most_120_chats,
    count(*) FILTER (WHERE a.age_seconds <= 300) AS at_most_300_chats,
    count(*) FILTER (WHERE a.age_seconds <= 600) AS at_most_600_chats,
    count(*) FILTER (WHERE a.age_seconds <= 1200) AS at_most_1200_chats,
    count(*) FILTER (WHERE a.age_seconds <= 3600) AS at_most_3600_chats,
    count(*) FILTER (WHERE a.age_seconds <= 14400) AS at_most_14400_chats,
    count(*) FILTER (WHERE a.age_seconds <= 86400) AS at_most_86400_chats,
    count(*) AS chats
FROM aged AS a
GROUP BY a.state
