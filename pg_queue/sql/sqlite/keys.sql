-- name: take
-- Let a message have a key that is free or has lapsed; no row: another message holds it.
INSERT INTO pg_queue_key (namespace, key, message_id, ttl_seconds)
VALUES (:namespace, :key, :id, :ttl_seconds)
ON CONFLICT (namespace, key) DO UPDATE
SET message_id = excluded.message_id, ttl_seconds = excluded.ttl_seconds, expires_at = NULL
WHERE expires_at <= :now
RETURNING message_id

-- name: holder
-- The message that holds a key.
SELECT message_id FROM pg_queue_key WHERE namespace = :namespace AND key = :key

-- name: lapse
-- The message has ended: its key holds for its time to live from now on.
UPDATE pg_queue_key
SET expires_at = strftime('%Y-%m-%d %H:%M:%f', :now, printf('%+.3f seconds', ttl_seconds))
WHERE message_id = :id

-- name: resume
-- The message waits again: so its key holds, if nobody else has it.
INSERT INTO pg_queue_key (namespace, key, message_id, ttl_seconds)
VALUES (:namespace, :key, :id, :ttl_seconds)
ON CONFLICT (namespace, key) DO UPDATE
SET message_id = excluded.message_id, expires_at = NULL
WHERE message_id = excluded.message_id OR expires_at <= :now
