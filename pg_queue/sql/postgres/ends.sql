-- name: retry
-- Let held messages with attempts left wait again, each after its delay.
WITH outcome AS (
    SELECT (o ->> 0)::uuid AS id, (o ->> 1)::uuid AS token, o -> 2 AS failure, (o ->> 3)::double precision AS delay
    FROM jsonb_array_elements(%(outcomes)s::jsonb) AS o
)
UPDATE pg_queue_message AS m
SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, last_error = outcome.failure,
    run_after = clock_timestamp() + make_interval(secs => outcome.delay)
FROM outcome
WHERE m.id = ANY (ARRAY(SELECT id FROM outcome)) AND m.id = outcome.id
        AND COALESCE(m.claim_token = outcome.token, false)
    AND m.attempts < m.max_attempts
RETURNING outcome.token

-- name: end
-- End messages under these tokens (null: it waits): delete them, leave results, dead letters of those that failed, and
-- let their keys lapse in time. Answers what follows from each end, for its own transaction to do.
WITH outcome AS (
    SELECT
        (o ->> 0)::uuid AS id, (o ->> 1)::uuid AS token, o ->> 2 AS state, o -> 3 AS value,
        NULLIF(o -> 4, 'null'::jsonb) AS failure, (o ->> 5)::double precision AS ttl
    FROM jsonb_array_elements(%(outcomes)s::jsonb) AS o
),
gone AS (
    DELETE FROM pg_queue_message AS m
    USING outcome
    WHERE m.id = ANY (ARRAY(SELECT id FROM outcome)) AND m.id = outcome.id
        AND m.claim_token IS NOT DISTINCT FROM outcome.token
    RETURNING m.*, outcome.state, outcome.value, outcome.failure, outcome.ttl
),
buried AS (
    INSERT INTO pg_queue_deadletter (
        id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, attempts, max_attempts,
        enqueued_at, died_at, error, key, continuations
    )
    SELECT
        id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, attempts, max_attempts,
        enqueued_at, clock_timestamp(), failure, key, continuations
    FROM gone
    WHERE state = 'failed'
    ON CONFLICT (id) DO UPDATE
        SET namespace = EXCLUDED.namespace, queue = EXCLUDED.queue, priority = EXCLUDED.priority,
            task = EXCLUDED.task, args = EXCLUDED.args, kwargs = EXCLUDED.kwargs, headers = EXCLUDED.headers,
            organization_id = EXCLUDED.organization_id, report_to = EXCLUDED.report_to,
            attempts = EXCLUDED.attempts, max_attempts = EXCLUDED.max_attempts,
            enqueued_at = EXCLUDED.enqueued_at, died_at = EXCLUDED.died_at, error = EXCLUDED.error,
            key = EXCLUDED.key, continuations = EXCLUDED.continuations
),
recorded AS (
    INSERT INTO pg_queue_result (
        message_id, namespace, state, task, queue, priority, organization_id, headers, report_to, value, error,
        attempts, max_attempts, worker, run_after, enqueued_at, started_at, finished_at, expires_at, key, barrier_id
    )
    SELECT
        id, namespace, state, task, queue, priority, organization_id, headers, report_to,
        NULLIF(value, 'null'::jsonb), failure, attempts, max_attempts, claimed_by, run_after, enqueued_at, started_at,
        clock_timestamp(), clock_timestamp() + make_interval(secs => NULLIF(ttl, 0)), key, barrier_id
    FROM gone
    ON CONFLICT (message_id) DO UPDATE
        SET namespace = EXCLUDED.namespace, state = EXCLUDED.state, task = EXCLUDED.task,
            queue = EXCLUDED.queue, priority = EXCLUDED.priority, organization_id = EXCLUDED.organization_id,
            headers = EXCLUDED.headers, report_to = EXCLUDED.report_to, value = EXCLUDED.value,
            error = EXCLUDED.error, attempts = EXCLUDED.attempts, max_attempts = EXCLUDED.max_attempts,
            worker = EXCLUDED.worker, run_after = EXCLUDED.run_after, enqueued_at = EXCLUDED.enqueued_at,
            started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at,
            expires_at = EXCLUDED.expires_at, key = EXCLUDED.key, barrier_id = EXCLUDED.barrier_id
),
lapsing AS (
    UPDATE pg_queue_key
    SET expires_at = clock_timestamp() + make_interval(secs => ttl_seconds)
    WHERE message_id = ANY (ARRAY(SELECT id FROM gone WHERE key IS NOT NULL))
)
SELECT id, claim_token, namespace, state, barrier_id, continuations::text FROM gone

-- name: hold
-- Lock messages that are to be cancelled, in one order among all who do so, and tell under which token each is held.
SELECT id, claim_token, attempts, max_attempts
FROM pg_queue_message
WHERE namespace = %(namespace)s AND id = ANY (%(ids)s::uuid[])
ORDER BY id
FOR UPDATE

-- name: expire
-- Take back claims whose lease has run out: those with attempts left wait again where they stood, the others are held
-- for `end`. Of all namespaces.
WITH expired AS (
    SELECT id, claim_token, claimed_by, attempts, max_attempts, attempts < max_attempts AS has_attempts
    FROM pg_queue_message
    WHERE claim_token IS NOT NULL AND lease_until <= now()
    ORDER BY lease_until
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
returned AS (
    UPDATE pg_queue_message AS m
    SET claim_token = NULL, claimed_by = NULL, lease_until = NULL,
        last_error = jsonb_build_object('type', 'worker.vanished', 'message',
            format('attempt %%s: the lease of worker %%s ran out', m.attempts, m.claimed_by), 'traceback', '')
    WHERE m.id = ANY (ARRAY(SELECT id FROM expired WHERE has_attempts))
    RETURNING m.namespace, m.queue
),
woken AS (
    SELECT pg_notify('pg_queue', namespace || ' ' || queue) FROM (SELECT DISTINCT namespace, queue FROM returned) AS q
)
SELECT id, claim_token, claimed_by, attempts, max_attempts, has_attempts
FROM expired
WHERE (SELECT count(*) FROM woken) >= 0
