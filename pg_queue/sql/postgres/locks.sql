-- name: acquire
-- Take a lock that is free or has expired; no row: another's holds. Waits for an open transaction that takes the same.
INSERT INTO pg_queue_lock AS l (namespace, name, owner, expires_at)
VALUES (%(namespace)s, %(name)s, %(owner)s, clock_timestamp() + make_interval(secs => %(ttl)s))
ON CONFLICT (namespace, name) DO UPDATE
    SET owner = EXCLUDED.owner, expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
    WHERE l.expires_at <= clock_timestamp()
RETURNING l.owner

-- name: extend
-- Hold it longer, if this owner holds it.
UPDATE pg_queue_lock
SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
WHERE namespace = %(namespace)s AND name = %(name)s AND owner = %(owner)s AND expires_at > clock_timestamp()
RETURNING owner

-- name: release
-- Give it up, if this owner holds it.
DELETE FROM pg_queue_lock
WHERE namespace = %(namespace)s AND name = %(name)s AND owner = %(owner)s AND expires_at > clock_timestamp()
RETURNING owner

-- name: retain
-- Delete locks that have expired. Without an index: the table is as small as what is held, and what has just expired.
DELETE FROM pg_queue_lock
WHERE id = ANY (ARRAY(
    SELECT id FROM pg_queue_lock WHERE expires_at <= now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))
