-- name: turn
-- Turn a switch, and wake the workers that may have been waiting for it.
WITH turned AS (
    INSERT INTO pg_queue_switch (namespace, queue, is_on, changed_by, reason)
    VALUES (%(namespace)s, %(queue)s, %(is_on)s, %(by)s, %(reason)s)
    ON CONFLICT (namespace, queue) DO UPDATE
        SET is_on = EXCLUDED.is_on, changed_at = now(), changed_by = EXCLUDED.changed_by, reason = EXCLUDED.reason
    RETURNING queue, is_on, changed_at, changed_by, reason
),
woken AS (
    SELECT pg_notify('pg_queue', %(waker)s) WHERE %(is_on)s
)
SELECT * FROM turned WHERE (SELECT count(*) FROM woken) >= 0

-- name: list
-- All switches of the namespace; its own, which has no queue, is the first.
SELECT queue, is_on, changed_at, changed_by, reason
FROM pg_queue_switch
WHERE namespace = %(namespace)s
ORDER BY queue
