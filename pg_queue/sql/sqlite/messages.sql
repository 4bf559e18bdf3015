-- name: now
-- The store's clock: the machine's, in milliseconds, as SQLite itself reads it.
SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')

-- name: store
-- Store one message. It cannot become due before it is there: max.
INSERT INTO pg_queue_message (
    id, sequence, namespace, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to,
    attempts, max_attempts, enqueued_at, key, barrier_id, continuations
)
VALUES (
    :id, :sequence, :namespace, :queue, :priority, max(:run_after, :now), :task, :args, :kwargs, :headers,
    :organization_id, :report_to, 0, :max_attempts, :now, :key, :barrier_id, :continuations
)

-- name: slots
-- The queues and priorities in which something is due, in the order in which they are served. What is off has none.
SELECT queue.value, priority.value
FROM json_each(:queues) AS queue
CROSS JOIN json_each('[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]') AS priority
WHERE
    NOT EXISTS (
        SELECT 1 FROM pg_queue_switch AS s
        WHERE s.namespace = :namespace AND s.queue IN ('', queue.value) AND NOT s.is_on
    )
    AND EXISTS (
        SELECT 1 FROM pg_queue_message AS m
        WHERE m.namespace = :namespace AND m.queue = queue.value AND m.priority = priority.value
            AND m.claim_token IS NULL AND m.run_after <= :now
    )
ORDER BY queue.key, priority.key

-- name: due
-- The unclaimed messages of one slot that are due, in the order in which they became so.
SELECT id
FROM pg_queue_message
WHERE namespace = :namespace AND queue = :queue AND priority = :priority AND claim_token IS NULL AND run_after <= :now
ORDER BY run_after, sequence
LIMIT :limit

-- name: waiting
-- The organizations that have due messages in one slot, by name from `start` on. A loose scan of the turns index: each
-- step is one descent to the next name, however many messages each has.
WITH RECURSIVE organization (name) AS (
    SELECT (
        SELECT m.organization_id FROM pg_queue_message AS m
        WHERE m.namespace = :namespace AND m.queue = :queue AND m.priority = :priority AND m.lease_until IS NULL
            AND m.organization_id >= :start
        ORDER BY m.organization_id
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT m.organization_id FROM pg_queue_message AS m
        WHERE m.namespace = :namespace AND m.queue = :queue AND m.priority = :priority AND m.lease_until IS NULL
            AND m.organization_id > organization.name
        ORDER BY m.organization_id
        LIMIT 1
    )
    FROM organization
    WHERE organization.name IS NOT NULL
    LIMIT 20 * :room
)
SELECT organization.name
FROM organization
WHERE
    organization.name IS NOT NULL
    AND organization.name NOT IN (SELECT value FROM json_each(:full))
    AND EXISTS (
        SELECT 1 FROM pg_queue_message AS m
        WHERE m.namespace = :namespace AND m.queue = :queue AND m.priority = :priority AND m.lease_until IS NULL
            AND m.organization_id = organization.name AND m.run_after <= :now
    )
LIMIT :room

-- name: due_of
-- The unclaimed messages of one organization in one slot that are due, in the order in which they became so.
SELECT id
FROM pg_queue_message
WHERE namespace = :namespace AND queue = :queue AND priority = :priority AND lease_until IS NULL
    AND organization_id = :organization AND run_after <= :now
ORDER BY run_after, sequence
LIMIT :limit

-- name: overdue
-- The unclaimed messages of one slot that have been due since `before`, the oldest first, to be sorted among slots.
SELECT run_after, sequence, id, organization_id
FROM pg_queue_message
WHERE namespace = :namespace AND queue = :queue AND priority = :priority AND claim_token IS NULL
    AND run_after <= :before
ORDER BY run_after, sequence
LIMIT :limit

-- name: running
-- How many messages of each organization run.
SELECT organization_id, count(*)
FROM pg_queue_message
WHERE namespace = :namespace AND claim_token IS NOT NULL
GROUP BY organization_id

-- name: hold
-- Give each of these messages to a worker, under the token that is beside it.
UPDATE pg_queue_message AS m
SET claim_token = chosen.value ->> 1, claimed_by = :worker, lease_until = :until, started_at = :now,
    attempts = attempts + 1, progress = NULL
FROM json_each(:chosen) AS chosen
WHERE m.id = chosen.value ->> 0

-- name: claimed
-- The messages just given to a worker, in the order in which they were chosen. By +, an instant is the text that is
-- stored: for the column itself Django would parse it, and raise for one that nobody can read.
SELECT
    m.id, m.task, m.args, m.kwargs, m.queue, m.priority, 'running', m.attempts, m.max_attempts, +m.run_after,
    +m.enqueued_at, +m.started_at, NULL, m.headers, m.organization_id, m.report_to, m.claimed_by, NULL, m.last_error,
    m.key, m.barrier_id,
    m.claim_token, +m.lease_until
FROM json_each(:chosen) AS chosen
CROSS JOIN pg_queue_message AS m
WHERE m.id = chosen.value ->> 0
ORDER BY chosen.key

-- name: held
-- Of these pairs of a message and a token, those that hold.
SELECT m.id, m.claim_token
FROM json_each(:pairs) AS pair
CROSS JOIN pg_queue_message AS m
WHERE m.id = pair.value ->> 0 AND m.claim_token = pair.value ->> 1

-- name: rename
-- Give a message that was just claimed an id, in the place of what is none.
UPDATE pg_queue_message SET id = :new_id WHERE id = :id AND claim_token = :token

-- name: renew
-- Extend a lease.
UPDATE pg_queue_message SET lease_until = :until WHERE id = :id

-- name: note_progress
-- Note what an execution says of itself.
UPDATE pg_queue_message SET progress = :progress WHERE id = :id AND claim_token = :token

-- name: release
-- Give a claim back whose execution never began; it keeps its place and the attempt is not counted.
UPDATE pg_queue_message
SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, started_at = NULL, attempts = attempts - 1
WHERE id = :id

-- name: next_due
-- When the next unclaimed message of these queues is due; null without one. What is off has none.
SELECT min((
    SELECT m.run_after FROM pg_queue_message AS m
    WHERE m.namespace = :namespace AND m.queue = queue.value AND m.priority = priority.value AND m.claim_token IS NULL
    ORDER BY m.run_after
    LIMIT 1
))
FROM json_each(:queues) AS queue
CROSS JOIN json_each('[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]') AS priority
WHERE NOT EXISTS (
    SELECT 1 FROM pg_queue_switch AS s
    WHERE s.namespace = :namespace AND s.queue IN ('', queue.value) AND NOT s.is_on
)

-- name: lapsed
-- When the oldest lease of all namespaces ran out that has; null: none has.
SELECT min(lease_until) FROM pg_queue_message WHERE claim_token IS NOT NULL AND lease_until <= :now

-- name: depths
-- Exact figures per queue; reads the whole table, for a scrape or a person.
SELECT queue, sum(waiting), sum(delayed), sum(running), sum(dead), max(oldest)
FROM (
    SELECT
        queue,
        count(*) FILTER (WHERE claim_token IS NULL AND run_after <= :now) AS waiting,
        count(*) FILTER (WHERE claim_token IS NULL AND run_after > :now) AS delayed,
        count(*) FILTER (WHERE claim_token IS NOT NULL) AS running,
        0 AS dead,
        coalesce(
            86400 * (
                julianday(:now)
                - julianday(min(run_after) FILTER (WHERE claim_token IS NULL AND run_after <= :now))
            ),
            0.0
        ) AS oldest
    FROM pg_queue_message
    WHERE namespace = :namespace
    GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, 0, count(*), 0.0 FROM pg_queue_deadletter WHERE namespace = :namespace GROUP BY queue
)
GROUP BY queue
ORDER BY queue
