-- name: store
-- Keep a task's state, unless it has succeeded before, and tell those who wait for it, if any do.
-- Who waits holds the slot's advisory lock, shared, for as long as its session lives. So an exclusive one is to be had
-- only while nobody waits; and who begins to wait meanwhile gets the lock after this commit, and then finds the row.
-- A NOTIFY on every result would let all commits of the server queue up behind one lock.
WITH stored AS (
    INSERT INTO pg_queue_celeryresult AS kept (
        namespace, task_id, status, content_type, content_encoding, meta, stored_at, expires_at
    )
    VALUES (
        %(namespace)s, %(task_id)s, %(status)s, %(content_type)s, %(content_encoding)s, %(meta)s, now(),
        now() + make_interval(secs => %(ttl)s::double precision)
    )
    ON CONFLICT (namespace, task_id) DO UPDATE
        SET status = EXCLUDED.status, content_type = EXCLUDED.content_type,
            content_encoding = EXCLUDED.content_encoding, meta = EXCLUDED.meta, stored_at = EXCLUDED.stored_at,
            expires_at = EXCLUDED.expires_at
        WHERE kept.status <> 'SUCCESS' OR kept.expires_at <= now()
    RETURNING 1
)
SELECT pg_notify(%(channel)s, %(payload)s)
FROM stored
WHERE NOT pg_try_advisory_xact_lock(%(lock_class)s::integer, %(slot)s::integer)

-- name: get
-- The states of tasks that are known and not past their time.
SELECT task_id, content_type, content_encoding, meta
FROM pg_queue_celeryresult
WHERE namespace = %(namespace)s AND task_id = ANY (%(ids)s::text[]) AND (expires_at IS NULL OR expires_at > now())

-- name: read
-- The same, for who reads them as results of messages.
SELECT task_id, status, content_type, meta, stored_at
FROM pg_queue_celeryresult
WHERE namespace = %(namespace)s AND task_id = ANY (%(ids)s::text[]) AND (expires_at IS NULL OR expires_at > now())

-- name: forget
-- Delete what is known of a task.
DELETE FROM pg_queue_celeryresult WHERE namespace = %(namespace)s AND task_id = %(task_id)s

-- name: save_group
-- Keep a group's members.
INSERT INTO pg_queue_celerygroup (namespace, group_id, content_type, content_encoding, meta, expires_at)
VALUES (
    %(namespace)s, %(group_id)s, %(content_type)s, %(content_encoding)s, %(meta)s,
    now() + make_interval(secs => %(ttl)s::double precision)
)
ON CONFLICT (namespace, group_id) DO UPDATE
    SET content_type = EXCLUDED.content_type, content_encoding = EXCLUDED.content_encoding, meta = EXCLUDED.meta,
        expires_at = EXCLUDED.expires_at

-- name: get_group
-- A saved group that is not past its time.
SELECT content_type, content_encoding, meta
FROM pg_queue_celerygroup
WHERE namespace = %(namespace)s AND group_id = %(group_id)s AND (expires_at IS NULL OR expires_at > now())

-- name: delete_group
-- Forget a saved group.
DELETE FROM pg_queue_celerygroup WHERE namespace = %(namespace)s AND group_id = %(group_id)s

-- name: listen
-- Hear of the results in one slot. The channel is an identifier, which cannot be a parameter.
LISTEN {channel}

-- name: attend
-- Say that somebody waits for results in these slots, for as long as the session lives.
SELECT count(pg_advisory_lock_shared(%(lock_class)s::integer, slot)) FROM unnest(%(slots)s::integer[]) AS slot

-- name: retain_results
-- Delete results past their time to live.
DELETE FROM pg_queue_celeryresult
WHERE (namespace, task_id) IN (
    SELECT namespace, task_id FROM pg_queue_celeryresult
    WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)

-- name: retain_groups
-- Delete saved groups past their time to live.
DELETE FROM pg_queue_celerygroup
WHERE (namespace, group_id) IN (
    SELECT namespace, group_id FROM pg_queue_celerygroup
    WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)

-- name: retain_chords
-- Delete chords past their time to live, with their parts.
WITH gone AS (
    SELECT namespace, group_id FROM pg_queue_celerychord
    WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
parts AS (
    DELETE FROM pg_queue_celerychordpart WHERE (namespace, group_id) IN (SELECT namespace, group_id FROM gone)
)
DELETE FROM pg_queue_celerychord WHERE (namespace, group_id) IN (SELECT namespace, group_id FROM gone)
