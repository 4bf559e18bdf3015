-- name: succeed
-- Delete held messages and leave their results, in one statement. Only those from whose end nothing follows.
-- m.id = ANY(array) besides the join: an index scan whatever the planner thinks of the parameter's size.
-- COALESCE keeps the planner off the index of claimed messages, here and below: all that were ever settled are its dead
-- entries until the next VACUUM, and each batch would walk past them.
WITH outcome AS (
    SELECT (o ->> 0)::uuid AS id, (o ->> 1)::uuid AS token, o -> 2 AS value, (o ->> 3)::double precision AS ttl
    FROM jsonb_array_elements(%(outcomes)s::jsonb) AS o
),
gone AS (
    DELETE FROM pg_queue_message AS m
    USING outcome
    WHERE m.id = ANY (ARRAY(SELECT id FROM outcome)) AND m.id = outcome.id
        AND COALESCE(m.claim_token = outcome.token, false)
        AND m.key IS NULL AND m.barrier_id IS NULL AND m.continuations IS NULL
    RETURNING m.*, outcome.token, outcome.value, outcome.ttl
),
recorded AS (
    INSERT INTO pg_queue_result (
        message_id, namespace, state, task, queue, priority, organization_id, headers, report_to, value, attempts,
        max_attempts, worker, run_after, enqueued_at, started_at, finished_at, expires_at
    )
    SELECT
        id, namespace, 'succeeded', task, queue, priority, organization_id, headers, report_to, NULLIF(value, 'null'::jsonb),
        attempts, max_attempts, claimed_by, run_after, enqueued_at, started_at, clock_timestamp(),
        clock_timestamp() + make_interval(secs => NULLIF(ttl, 0))
    FROM gone
    ON CONFLICT (message_id) DO UPDATE
        SET namespace = EXCLUDED.namespace, state = EXCLUDED.state, task = EXCLUDED.task,
            queue = EXCLUDED.queue, priority = EXCLUDED.priority, organization_id = EXCLUDED.organization_id,
            headers = EXCLUDED.headers, report_to = EXCLUDED.report_to, value = EXCLUDED.value,
            error = EXCLUDED.error, attempts = EXCLUDED.attempts, max_attempts = EXCLUDED.max_attempts,
            worker = EXCLUDED.worker, run_after = EXCLUDED.run_after, enqueued_at = EXCLUDED.enqueued_at,
            started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at,
            expires_at = EXCLUDED.expires_at, key = EXCLUDED.key, barrier_id = EXCLUDED.barrier_id
)
SELECT token FROM gone

-- name: forget
-- Delete held messages of whose end nothing is kept, and what an earlier one of the same id has left. Only those whose
-- end nobody needs. Answers how many, and under which tokens where not all of them held.
WITH gone AS (
    DELETE FROM pg_queue_message AS m
    USING unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
    WHERE m.id = ANY (%(ids)s::uuid[]) AND m.id = held.id AND COALESCE(m.claim_token = held.token, false)
        AND m.report_to IS NULL AND m.key IS NULL AND m.barrier_id IS NULL AND m.continuations IS NULL
    RETURNING m.id, held.token
),
forgotten AS (
    DELETE FROM pg_queue_result WHERE message_id = ANY (ARRAY(SELECT id FROM gone))
)
SELECT count(*), CASE WHEN count(*) <> cardinality(%(ids)s::uuid[]) THEN array_agg(token) END FROM gone

-- name: get
-- Messages by id, as they wait or run, else as their result remembers them.
SELECT
    id, task, args::text, kwargs::text, queue, priority,
    CASE WHEN claim_token IS NULL THEN 'waiting' ELSE 'running' END AS state,
    attempts, max_attempts, run_after, enqueued_at, started_at, NULL::timestamptz AS finished_at, headers::text,
    organization_id, report_to, claimed_by AS worker, NULL::text AS result, last_error::text AS error, key,
    barrier_id, progress::text
FROM pg_queue_message
WHERE namespace = %(namespace)s AND id = ANY (%(ids)s::uuid[])
UNION ALL
SELECT
    message_id, task, '[]', '{}', queue, priority, state, attempts, max_attempts, run_after, enqueued_at, started_at,
    finished_at, headers::text, organization_id, report_to, worker, value::text, error::text, key, barrier_id, NULL
FROM pg_queue_result
WHERE namespace = %(namespace)s AND message_id = ANY (%(ids)s::uuid[])

-- name: take_outcomes
-- Hand the oldest unreported outcomes of one consumer over; whoever holds a row's lock has it.
WITH taken AS (
    SELECT message_id
    FROM pg_queue_result
    WHERE namespace = %(namespace)s AND report_to = %(report_to)s
    ORDER BY finished_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
handed_over AS (
    UPDATE pg_queue_result
    SET report_to = NULL
    WHERE message_id = ANY (ARRAY(SELECT message_id FROM taken))
    RETURNING *
)
SELECT
    message_id AS id, task, '[]' AS args, '{}' AS kwargs, queue, priority, state, attempts, max_attempts, run_after,
    enqueued_at, started_at, finished_at, headers::text, organization_id, %(report_to)s::text AS report_to, worker,
    value::text AS result, error::text, key, barrier_id
FROM handed_over
ORDER BY finished_at, message_id

-- name: replay
-- Turn dead letters back into waiting messages; their failed results go, so that the next outcome is reported again.
-- Each holds its key again, unless another message does by now.
WITH risen AS (
    DELETE FROM pg_queue_deadletter WHERE namespace = %(namespace)s AND id = ANY (%(ids)s::uuid[]) RETURNING *
),
kept AS (
    INSERT INTO pg_queue_key AS k (namespace, key, message_id, ttl_seconds)
    SELECT DISTINCT ON (key) namespace, key, id, %(key_ttl)s::double precision FROM risen WHERE key IS NOT NULL
    ORDER BY key, id
    ON CONFLICT (namespace, key) DO UPDATE
        SET message_id = EXCLUDED.message_id, expires_at = NULL,
            ttl_seconds = CASE WHEN k.message_id = EXCLUDED.message_id THEN k.ttl_seconds ELSE EXCLUDED.ttl_seconds END
        WHERE k.message_id = EXCLUDED.message_id OR k.expires_at <= statement_timestamp()
),
forgotten AS (
    DELETE FROM pg_queue_result WHERE message_id = ANY (ARRAY(SELECT id FROM risen)) AND state = 'failed'
),
stored AS (
    INSERT INTO pg_queue_message (
        id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, attempts,
        max_attempts, run_after, enqueued_at, last_error, key, continuations
    )
    SELECT
        id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to,
        CASE WHEN %(keep_attempts)s THEN LEAST(attempts, max_attempts - 1) ELSE 0 END,
        max_attempts, now(), enqueued_at, error, key, continuations
    FROM risen
    RETURNING id, namespace, queue
),
woken AS (
    SELECT pg_notify('pg_queue', namespace || ' ' || queue) FROM (SELECT DISTINCT namespace, queue FROM stored) AS q
)
SELECT id FROM stored WHERE (SELECT count(*) FROM woken) >= 0

-- name: retain_results
-- Delete results past their time to live. One that its consumer has not taken yet is kept.
DELETE FROM pg_queue_result
WHERE message_id = ANY (ARRAY(
    SELECT message_id FROM pg_queue_result
    WHERE expires_at <= now() AND report_to IS NULL
    ORDER BY expires_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: retain_dead_letters
-- Delete dead letters past their time to live.
DELETE FROM pg_queue_deadletter
WHERE id = ANY (ARRAY(
    SELECT id FROM pg_queue_deadletter
    WHERE died_at <= now() - make_interval(secs => %(ttl)s)
    ORDER BY died_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: retain_keys
-- Delete keys that no longer hold.
DELETE FROM pg_queue_key
WHERE id = ANY (ARRAY(
    SELECT id FROM pg_queue_key
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
