-- name: take
-- Take tokens out of a bucket, as many as there are; answers how many, and the seconds until there is another.
-- The instant is read before the row is locked, so who has waited for the lock asks as of then and gets no more by it.
INSERT INTO pg_queue_limit AS l (namespace, name, full_at, asked_at, granted)
SELECT
    %(namespace)s, %(name)s,
    now.at + make_interval(secs => ceil(LEAST(%(wanted)s, %(burst)s) * %(interval)s::double precision * 1e6) / 1e6),
    now.at, LEAST(%(wanted)s, %(burst)s)
FROM (SELECT clock_timestamp() AS at) AS now
ON CONFLICT (namespace, name) DO UPDATE
    SET (full_at, asked_at, granted) = (
        SELECT
            begun.at + make_interval(secs => ceil(given.count * %(interval)s::double precision * 1e6) / 1e6),
            EXCLUDED.asked_at, given.count
        FROM (SELECT GREATEST(l.full_at, EXCLUDED.asked_at) AS at) AS begun
        CROSS JOIN LATERAL (
            SELECT GREATEST(0, LEAST(%(wanted)s, floor(
                %(burst)s - extract(epoch FROM begun.at - EXCLUDED.asked_at) / %(interval)s::double precision
                + %(rounding)s::double precision
            )))::integer AS count
        ) AS given
    )
RETURNING
    granted,
    GREATEST(
        0, extract(epoch FROM full_at - asked_at)::double precision - (%(burst)s - 1) * %(interval)s::double precision
    )::double precision AS wait_seconds

-- name: give_back
-- Put tokens back that were not used.
UPDATE pg_queue_limit
SET full_at = full_at - make_interval(secs => floor(%(count)s * %(interval)s::double precision * 1e6) / 1e6)
WHERE namespace = %(namespace)s AND name = %(name)s
