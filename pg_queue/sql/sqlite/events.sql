-- name: publish
-- Store one event.
INSERT INTO pg_queue_event (id, namespace, topic, key, payload, created_at, run_after)
VALUES (:id, :namespace, :topic, :key, :payload, :now, :now)

-- name: due
-- The oldest due events of these topics.
SELECT id
FROM pg_queue_event
WHERE namespace = :namespace AND topic IN (SELECT value FROM json_each(:topics)) AND run_after <= :now
ORDER BY run_after, rowid
LIMIT :limit

-- name: lease
-- Hold one event.
UPDATE pg_queue_event
SET token = :token, run_after = :until, attempts = attempts + 1
WHERE id = :id
RETURNING id, topic, payload, key, +created_at, attempts, error, token

-- name: confirm
-- Delete an event, if the token holds.
DELETE FROM pg_queue_event WHERE id = :id AND token = :token RETURNING id

-- name: defer
-- Put an event off, if the token holds.
UPDATE pg_queue_event
SET token = NULL, run_after = :until, error = :error
WHERE id = :id AND token = :token
RETURNING id

-- name: get
-- Events by id, leased or not.
SELECT id, topic, payload, key, +created_at, attempts, error
FROM pg_queue_event
WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:ids))

-- name: drop
-- Delete events that are never to leave.
DELETE FROM pg_queue_event
WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:ids))
RETURNING id

-- name: backlog
-- What waits, per topic.
SELECT topic, count(*), count(*) FILTER (WHERE error <> ''), 86400 * (julianday(:now) - julianday(min(created_at)))
FROM pg_queue_event
WHERE namespace = :namespace
GROUP BY topic
ORDER BY topic
