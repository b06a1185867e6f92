-- Messages in each hour of the week, over four weeks, by the index on created_at.
SELECT
    extract(DOW FROM d.hour)::integer AS day,
    extract(HOUR FROM d.hour)::integer AS hour,
    sum(d.messages)::bigint AS messages,
    bool_or(
        extract(DOW FROM d.hour) = extract(DOW FROM now())
        AND extract(HOUR FROM d.hour) = extract(HOUR FROM now())
    ) AS is_now
FROM (
    SELECT
        h.hour,
        count(m.created_at) AS messages
    FROM generate_series(
        date_trunc('hour', now()) - interval '4 weeks',
        date_trunc('hour', now()) - interval '1 hour',
        interval '1 hour'
    ) AS h (hour)
    LEFT JOIN public.messages AS m
        ON m.created_at >= h.hour AND m.created_at < h.hour + interval '1 hour'
    GROUP BY h.hour
) AS d
WHERE (SELECT min(m.created_at) FROM public.messages AS m) < now() - interval '2 weeks'
GROUP BY 1, 2
ORDER BY 3, 1, 2
