UPDATE public.operators AS o
SET is_available = true, is_active = true
WHERE o.id = (
    SELECT f.id
    FROM public.operators AS f
    WHERE NOT EXISTS (
        SELECT FROM public.chats AS c WHERE c.assigned_operator_id = f.id
    )
    ORDER BY f.id
    LIMIT 1
)
RETURNING o.id AS operator
