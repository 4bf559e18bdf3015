-- name: look
-- When a bucket is full again.
SELECT +full_at FROM pg_queue_limit WHERE namespace = :namespace AND name = :name

-- name: note
-- Note how full a bucket is.
INSERT INTO pg_queue_limit (namespace, name, full_at, asked_at, granted)
VALUES (:namespace, :name, :full_at, :now, :granted)
ON CONFLICT (namespace, name) DO UPDATE
SET full_at = excluded.full_at, asked_at = excluded.asked_at, granted = excluded.granted
