-- name: turn
-- Turn one queue, or with an empty name the whole namespace, on or off.
INSERT INTO pg_queue_switch (namespace, queue, is_on, changed_at, changed_by, reason)
VALUES (:namespace, :queue, :is_on, :now, :by, :reason)
ON CONFLICT (namespace, queue) DO UPDATE
SET is_on = excluded.is_on, changed_at = excluded.changed_at, changed_by = excluded.changed_by, reason = excluded.reason

-- name: list
-- Every switch of the namespace that was ever turned; the empty name, which is the namespace's own, comes first.
SELECT queue, is_on, +changed_at, changed_by, reason FROM pg_queue_switch WHERE namespace = :namespace ORDER BY queue
