-- How evenly the work falls on the operators who worked.
--
-- Purpose: the share of the busiest operator, and the Gini coefficient of assignments an operator,
--          over an hour and a day. Read them with the number of assignments beside them: among a
--          handful of assignments nothing is fair. The row that an admin's reassignment copies is no
--          assignment.
--          Gini (of n operators with sorted counts x): sum((2i - n - 1) x_i) / (n sum(x)); 0 is
--          even, (n - 1) / n is one for all.
-- Reads:   public.chat_assignments.
-- Cost:    in proportion to the assignments of the last day (index on assigned_at), hence every 60 s.
WITH spans AS (
    SELECT
        w.span,
        w.length
    FROM (VALUES ('1h', interval '1 hour'), ('24h', interval '24 hours')) AS w (span, length)
),

taken AS (
    SELECT
        q.operator_id,
        q.assigned_at
    FROM public.chat_assignments AS q
    WHERE
        q.assigned_at > now() - interval '24 hours'
        AND q.assigned_at <= now()
        AND (q.released_at IN (q.assigned_at, q.created_at)) IS NOT TRUE
        AND NOT EXISTS (
            SELECT 1
            FROM public.chat_assignments AS a
            WHERE
                q.chat_id = a.chat_id
                AND q.operator_id = a.operator_id
                AND q.id <> a.id
                AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                AND q.released_at > a.assigned_at
                AND q.released_at <= now()
                AND (a.released_at IS NULL OR a.released_at > q.released_at)
            OFFSET 0  -- or it may be hashed over the whole table
        )
),

counted AS (
    SELECT
        w.span,
        t.operator_id,
        count(*) AS assignments
    FROM spans AS w
    INNER JOIN taken AS t ON t.assigned_at > now() - w.length
    GROUP BY w.span, t.operator_id
),

ranked AS (
    SELECT
        c.span,
        c.assignments,
        row_number() OVER (PARTITION BY c.span ORDER BY c.assignments) AS rank,
        count(*) OVER (PARTITION BY c.span) AS operators
    FROM counted AS c
)

SELECT
    w.span,
    coalesce(sum(r.assignments), 0) AS assignments,
    coalesce(max(r.assignments) / sum(r.assignments), 0) AS share_max_ratio,
    coalesce(
        sum((2 * r.rank - r.operators - 1) * r.assignments)
        / (max(r.operators) * sum(r.assignments)),
        0
    ) AS gini_ratio
FROM spans AS w
LEFT JOIN ranked AS r ON r.span = w.span
GROUP BY w.span
