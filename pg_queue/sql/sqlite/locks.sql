-- name: acquire
-- Take a lock that is free or has expired; no row: another's holds.
INSERT INTO pg_queue_lock (namespace, name, owner, expires_at)
VALUES (:namespace, :name, :owner, :until)
ON CONFLICT (namespace, name) DO UPDATE
SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE expires_at <= :now
RETURNING owner

-- name: extend
-- Hold it longer, if this owner holds it.
UPDATE pg_queue_lock
SET expires_at = :until
WHERE namespace = :namespace AND name = :name AND owner = :owner AND expires_at > :now

-- name: release
-- Give it up, if this owner holds it.
DELETE FROM pg_queue_lock WHERE namespace = :namespace AND name = :name AND owner = :owner AND expires_at > :now

-- name: retain
-- Delete locks that have expired, of all namespaces. Without an index: the table is as small as what is held.
DELETE FROM pg_queue_lock WHERE id IN (SELECT id FROM pg_queue_lock WHERE expires_at <= :now LIMIT :limit)
