-- name: publish
-- Store events given as one JSON array of arrays, in its order: `clock_timestamp()` never falls from row to row.
INSERT INTO pg_queue_event (id, namespace, topic, key, payload, run_after)
SELECT (e ->> 0)::uuid, %(namespace)s, e ->> 1, e ->> 2, e -> 3, clock_timestamp()
FROM jsonb_array_elements(%(events)s::jsonb) AS e

-- name: publish_from
-- Store an event for each row of a relation of the caller's, as a part of the caller's own statement.
INSERT INTO pg_queue_event (id, namespace, topic, key, payload)
SELECT id, {namespace}, topic, COALESCE(NULLIF(key, ''), id::text), payload
FROM {source}

-- name: lease
-- Hold the oldest due events of these topics; each topic is a range of the index that ends at the present: of the
-- statement, since its transaction may have published some of them.
WITH due AS (
    SELECT ready.id, ready.run_after
    FROM (SELECT DISTINCT name FROM unnest(%(topics)s::text[]) AS name) AS topic
    CROSS JOIN LATERAL (
        SELECT e.id, e.run_after
        FROM pg_queue_event AS e
        WHERE e.namespace = %(namespace)s AND e.topic = topic.name AND e.run_after <= statement_timestamp()
        ORDER BY e.run_after, e.id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS ready
    ORDER BY ready.run_after, ready.id
    LIMIT %(limit)s
),
leased AS (
    UPDATE pg_queue_event AS e
    SET token = gen_random_uuid(), attempts = e.attempts + 1, run_after = statement_timestamp() + make_interval(secs => %(lease)s)
    FROM due
    WHERE e.id = ANY (ARRAY(SELECT id FROM due)) AND e.id = due.id
    RETURNING e.id, e.topic, e.payload::text, e.key, e.created_at, e.attempts, e.error, e.token, due.run_after AS due_at
)
SELECT id, topic, payload, key, created_at, attempts, error, token FROM leased ORDER BY due_at, id

-- name: confirm
-- Delete relayed events that these tokens still hold.
DELETE FROM pg_queue_event AS e
USING unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
WHERE e.id = ANY (%(ids)s::uuid[]) AND e.id = held.id AND e.token = held.token
RETURNING e.id

-- name: defer
-- Put off events that these tokens still hold; the lease ends with it.
UPDATE pg_queue_event AS e
SET token = NULL, error = %(error)s, run_after = statement_timestamp() + make_interval(secs => %(delay)s)
FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
WHERE e.id = ANY (%(ids)s::uuid[]) AND e.id = held.id AND e.token = held.token
RETURNING e.id

-- name: get
-- Events by id, leased or not.
SELECT id, topic, payload::text, key, created_at, attempts, error
FROM pg_queue_event
WHERE namespace = %(namespace)s AND id = ANY (%(ids)s::uuid[])

-- name: drop
-- Delete events that are never to leave.
DELETE FROM pg_queue_event
WHERE namespace = %(namespace)s AND id = ANY (%(ids)s::uuid[])
RETURNING id

-- name: backlog
-- What waits, per topic; reads the namespace's events, for a scrape or a person.
SELECT
    topic, count(*) AS waiting, count(*) FILTER (WHERE error <> '') AS failing,
    extract(epoch FROM statement_timestamp() - min(created_at))::double precision AS oldest_seconds
FROM pg_queue_event
WHERE namespace = %(namespace)s
GROUP BY topic
ORDER BY topic
