-- name: held
-- What the end of each message depends on, for those pairs of a message and a token that hold.
SELECT m.id, m.claim_token, m.namespace, m.attempts, m.max_attempts, m.key, m.barrier_id, m.continuations,
    m.report_to
FROM json_each(:pairs) AS pair
CROSS JOIN pg_queue_message AS m
WHERE m.id = pair.value ->> 0 AND m.claim_token = pair.value ->> 1

-- name: alive
-- The same for messages of a namespace that wait or run, whoever holds them.
SELECT m.id, m.claim_token, m.namespace, m.attempts, m.max_attempts, m.key, m.barrier_id, m.continuations,
    m.report_to
FROM json_each(:ids) AS wanted
CROSS JOIN pg_queue_message AS m
WHERE m.id = wanted.value AND m.namespace = :namespace

-- name: expired
-- The same for claims whose lease has run out, the longest ago first; and by whom they were held.
SELECT id, claim_token, namespace, attempts, max_attempts, key, barrier_id, continuations, report_to,
    claimed_by
FROM pg_queue_message
WHERE claim_token IS NOT NULL AND lease_until <= :now
ORDER BY lease_until
LIMIT :limit

-- name: record
-- Leave the result of a message that ends.
INSERT INTO pg_queue_result (
    message_id, namespace, state, task, queue, priority, organization_id, headers, report_to, value, error, attempts,
    max_attempts, worker, run_after, enqueued_at, started_at, finished_at, expires_at, key, barrier_id
)
SELECT
    id, namespace, :state, task, queue, priority, organization_id, headers, report_to, :value, :error, attempts,
    max_attempts, claimed_by, run_after, enqueued_at, started_at, :now, :expires_at, key, barrier_id
FROM pg_queue_message
WHERE id = :id
ON CONFLICT (message_id) DO UPDATE
SET namespace = excluded.namespace, state = excluded.state, task = excluded.task,
    queue = excluded.queue, priority = excluded.priority, organization_id = excluded.organization_id,
    headers = excluded.headers, report_to = excluded.report_to, value = excluded.value,
    error = excluded.error, attempts = excluded.attempts, max_attempts = excluded.max_attempts,
    worker = excluded.worker, run_after = excluded.run_after, enqueued_at = excluded.enqueued_at,
    started_at = excluded.started_at, finished_at = excluded.finished_at,
    expires_at = excluded.expires_at, key = excluded.key, barrier_id = excluded.barrier_id

-- name: forget
-- Delete what an earlier message of the same id has left.
DELETE FROM pg_queue_result WHERE message_id = :id

-- name: bury
-- Leave the dead letter of a message that has failed for good.
INSERT INTO pg_queue_deadletter (
    id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, attempts, max_attempts,
    enqueued_at, died_at, error, key, continuations
)
SELECT
    id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, attempts, max_attempts,
    enqueued_at, :now, :error, key, continuations
FROM pg_queue_message
WHERE id = :id
ON CONFLICT (id) DO UPDATE
SET namespace = excluded.namespace, queue = excluded.queue, priority = excluded.priority,
    task = excluded.task, args = excluded.args, kwargs = excluded.kwargs, headers = excluded.headers,
    organization_id = excluded.organization_id, report_to = excluded.report_to,
    attempts = excluded.attempts, max_attempts = excluded.max_attempts,
    enqueued_at = excluded.enqueued_at, died_at = excluded.died_at, error = excluded.error,
    key = excluded.key, continuations = excluded.continuations

-- name: remove
-- Delete a message that has ended.
DELETE FROM pg_queue_message WHERE id = :id

-- name: retry
-- Let a message wait for its next attempt.
UPDATE pg_queue_message
SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, last_error = :error, run_after = :run_after
WHERE id = :id

-- name: take_back
-- Let a message whose lease has run out wait again where it stood.
UPDATE pg_queue_message
SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, last_error = :error
WHERE id = :id

-- name: get
-- Messages by id, as they wait or run, else as their result remembers them.
SELECT
    m.id, m.task, m.args, m.kwargs, m.queue, m.priority,
    CASE WHEN m.claim_token IS NULL THEN 'waiting' ELSE 'running' END,
    m.attempts, m.max_attempts, +m.run_after, +m.enqueued_at, +m.started_at, NULL, m.headers, m.organization_id,
    m.report_to, m.claimed_by, NULL, m.last_error, m.key, m.barrier_id, m.progress
FROM json_each(:ids) AS wanted
CROSS JOIN pg_queue_message AS m
WHERE m.id = wanted.value AND m.namespace = :namespace
UNION ALL
SELECT
    r.message_id, r.task, '[]', '{}', r.queue, r.priority, r.state, r.attempts, r.max_attempts, +r.run_after,
    +r.enqueued_at, +r.started_at, +r.finished_at, r.headers, r.organization_id, r.report_to, r.worker, r.value, r.error,
    r.key, r.barrier_id, NULL
FROM json_each(:ids) AS wanted
CROSS JOIN pg_queue_result AS r
WHERE r.message_id = wanted.value AND r.namespace = :namespace
    AND NOT EXISTS (SELECT 1 FROM pg_queue_message AS m WHERE m.id = wanted.value)

-- name: unreported
-- The oldest outcomes that one consumer has not taken.
SELECT
    message_id, task, '[]', '{}', queue, priority, state, attempts, max_attempts, +run_after, +enqueued_at, +started_at,
    +finished_at, headers, organization_id, report_to, worker, value, error, key, barrier_id
FROM pg_queue_result
WHERE report_to = :report_to AND namespace = :namespace
ORDER BY finished_at, rowid
LIMIT :limit

-- name: hand_over
-- Note that an outcome was taken.
UPDATE pg_queue_result SET report_to = NULL WHERE message_id = :id

-- name: raise
-- Delete dead letters, to be replayed; what is needed for it.
DELETE FROM pg_queue_deadletter
WHERE id IN (SELECT value FROM json_each(:ids)) AND namespace = :namespace
RETURNING
    id, queue, priority, task, args, kwargs, headers, organization_id, report_to, max_attempts, +enqueued_at, error, key,
    continuations, attempts

-- name: forget_failure
-- Delete the failed result of a message that is replayed, so that the next outcome is reported again.
DELETE FROM pg_queue_result WHERE message_id = :id AND state = 'failed'

-- name: replay
-- Let a dead letter wait again, with all its attempts.
INSERT INTO pg_queue_message (
    id, sequence, namespace, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to,
    attempts, max_attempts, enqueued_at, last_error, key, continuations
)
VALUES (
    :id, :sequence, :namespace, :queue, :priority, :now, :task, :args, :kwargs, :headers, :organization_id, :report_to,
    :attempts, :max_attempts, :enqueued_at, :error, :key, :continuations
)

-- name: retain_results
-- Delete results past their time to live. One that its consumer has not taken yet is kept.
DELETE FROM pg_queue_result
WHERE message_id IN (
    SELECT message_id FROM pg_queue_result
    WHERE expires_at <= :now AND report_to IS NULL
    ORDER BY expires_at
    LIMIT :limit
)

-- name: retain_dead_letters
-- Delete dead letters that died before this instant.
DELETE FROM pg_queue_deadletter
WHERE id IN (SELECT id FROM pg_queue_deadletter WHERE died_at <= :before ORDER BY died_at LIMIT :limit)

-- name: retain_keys
-- Delete idempotency keys that have lapsed.
DELETE FROM pg_queue_key
WHERE id IN (SELECT id FROM pg_queue_key WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit)
