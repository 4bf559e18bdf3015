-- name: enqueue
-- Store messages given as one JSON array of arrays, and wake the workers that wait for these queues.
-- One text parameter instead of ten arrays: psycopg's array dumper costs more than the server's JSON parser.
-- The array is read in order, so `sequence` keeps it. A message cannot become due before it is there: GREATEST.
WITH stored AS (
    INSERT INTO pg_queue_message (
        namespace, id, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to, max_attempts
    )
    SELECT
        %(namespace)s, (m ->> 0)::uuid, m ->> 1, (m ->> 2)::smallint, GREATEST((m ->> 3)::timestamptz, now()),
        m ->> 4, m -> 5, m -> 6, m -> 7, m ->> 8, m ->> 9, (m ->> 10)::smallint
    FROM jsonb_array_elements(%(messages)s::jsonb) AS m
)
SELECT pg_notify('pg_queue', waker) FROM unnest(%(wakers)s::text[]) AS waker

-- name: enqueue_one
-- The same for one message: without the parsing and planning of the set, which cost as much as the insert itself.
WITH stored AS (
    INSERT INTO pg_queue_message (
        namespace, id, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to, max_attempts
    )
    VALUES (
        %(namespace)s, %(id)s, %(queue)s, %(priority)s, GREATEST(%(run_after)s::timestamptz, now()), %(task)s,
        %(args)s::jsonb, %(kwargs)s::jsonb, %(headers)s::jsonb, %(organization_id)s, %(report_to)s, %(max_attempts)s
    )
)
SELECT pg_notify('pg_queue', %(waker)s) WHERE %(waker)s::text IS NOT NULL

-- name: enqueue_whole
-- The same with all that a message may have: an idempotency key, a barrier, continuations.
-- Answers each key with the message that holds it. One that is missing from the answer was taken by a transaction that
-- has committed since this statement began: ask again. A key that visibly holds is only read, so that nobody who ends its
-- message waits for us; the others are taken in one order among all who do so.
WITH given AS MATERIALIZED (
    SELECT place, m, (m ->> 0)::uuid AS id, m ->> 11 AS key, (m ->> 12)::double precision AS ttl
    FROM jsonb_array_elements(%(messages)s::jsonb) WITH ORDINALITY AS g (m, place)
),
holding AS (
    SELECT k.key, k.message_id
    FROM pg_queue_key AS k
    WHERE k.namespace = %(namespace)s AND k.key = ANY (ARRAY(SELECT key FROM given))
        AND (k.expires_at IS NULL OR k.expires_at > statement_timestamp())
),
taken AS (
    INSERT INTO pg_queue_key (namespace, key, message_id, ttl_seconds)
    SELECT %(namespace)s, key, id, ttl
    FROM given
    WHERE key IS NOT NULL AND NOT EXISTS (SELECT FROM holding AS h WHERE h.key = given.key)
    ORDER BY key
    ON CONFLICT (namespace, key) DO UPDATE
        SET message_id = EXCLUDED.message_id, ttl_seconds = EXCLUDED.ttl_seconds, expires_at = NULL
        WHERE pg_queue_key.expires_at <= statement_timestamp()
    RETURNING key, message_id
),
stored AS (
    INSERT INTO pg_queue_message (
        namespace, id, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to,
        max_attempts, key, barrier_id, continuations
    )
    SELECT
        %(namespace)s, id, m ->> 1, (m ->> 2)::smallint, GREATEST((m ->> 3)::timestamptz, now()),
        m ->> 4, m -> 5, m -> 6, m -> 7, m ->> 8, m ->> 9, (m ->> 10)::smallint, key, (m ->> 13)::uuid,
        NULLIF(m -> 14, 'null'::jsonb)
    FROM given
    WHERE key IS NULL OR EXISTS (SELECT FROM taken WHERE taken.message_id = given.id)
    ORDER BY place
),
woken AS (
    SELECT pg_notify('pg_queue', waker) FROM unnest(%(wakers)s::text[]) AS waker
)
SELECT key, message_id FROM (SELECT * FROM holding UNION ALL SELECT * FROM taken) AS held
WHERE (SELECT count(*) FROM woken) >= 0

-- name: enqueue_from
-- Store a message for each row of a relation of the caller's, as a part of the caller's own statement: so there is no
-- RETURNING, and the values that are the project's own (the tasks' policies, a number) are literals.
INSERT INTO pg_queue_message (
    namespace, id, queue, priority, task, args, kwargs, headers, organization_id, report_to, max_attempts, run_after
)
SELECT
    {namespace}, id, queue, priority, task, args, kwargs, {headers}, organization_id, report_to,
    COALESCE(
        ({once_by_task}::jsonb ->> task)::smallint, max_attempts, ({attempts_by_task}::jsonb ->> task)::smallint,
        {max_attempts}
    ),
    GREATEST(run_after, now())
FROM {source}

-- name: expiring_headers
-- The headers of a row of the caller's relation, with the instant until which its task may be begun, where that has one.
CASE WHEN ({expires_by_task}::jsonb ->> task) IS NULL OR jsonb_exists(headers, 'expires_at') THEN headers
ELSE headers || jsonb_build_object('expires_at', to_char(
    (GREATEST(run_after, now()) + make_interval(secs => ({expires_by_task}::jsonb ->> task)::double precision))
        AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'))
END

-- name: is_unsettled
-- A condition of the caller's own statement: this message waits, runs or is to be tried again.
EXISTS (SELECT FROM pg_queue_message AS unsettled WHERE unsettled.id = {message_id})

-- name: wake
-- Wake the workers that wait for these queues of the namespace, when the transaction commits.
SELECT pg_notify('pg_queue', {namespace} || ' ' || queue) FROM unnest(%(queues)s::text[]) AS queue

-- name: listen
-- Hear of the queues that `wake` and others name: the namespace, a blank, the queue; no queue: all of the namespace.
LISTEN pg_queue

-- name: claim
-- Hold the next due messages, which the functions of `turns.sql` choose and lock, in the order of their choice.
-- id = ANY(array): an index scan whatever the planner thinks of a CTE's size.
WITH picked AS MATERIALIZED (
    SELECT pg_queue_pick(
        %(namespace)s, %(queues)s::text[], %(limit)s, %(rules)s::jsonb, %(starts)s::jsonb, %(aged)s::double precision
    ) AS ids
),
claimed AS (
    UPDATE pg_queue_message
    SET claim_token = gen_random_uuid(),
        claimed_by = %(worker)s,
        lease_until = now() + make_interval(secs => %(lease)s),
        started_at = now(),
        progress = NULL,
        attempts = attempts + 1
    WHERE id = ANY (ARRAY(SELECT unnest(ids) FROM picked))
    RETURNING *
)
SELECT
    id, task, args::text, kwargs::text, queue, priority, 'running' AS state, attempts, max_attempts, run_after,
    enqueued_at, started_at, NULL::timestamptz AS finished_at, headers::text, organization_id, report_to,
    claimed_by AS worker, NULL::text AS result, last_error::text AS error, key, barrier_id, claim_token, lease_until
FROM claimed
JOIN (SELECT place.* FROM picked, unnest(picked.ids) WITH ORDINALITY AS place (id, rank)) AS place USING (id)
ORDER BY place.rank

-- name: renew
-- Extend the leases that these tokens still hold.
UPDATE pg_queue_message AS m
SET lease_until = now() + make_interval(secs => %(lease)s)
FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
WHERE m.id = ANY (%(ids)s::uuid[]) AND m.id = held.id AND COALESCE(m.claim_token = held.token, false)
RETURNING held.token

-- name: note_progress
-- Note what executions say of themselves under tokens that hold.
WITH report AS (
    SELECT (r ->> 0)::uuid AS id, (r ->> 1)::uuid AS token, r -> 2 AS done, r -> 3 AS total, r -> 4 AS stage
    FROM jsonb_array_elements(%(reports)s::jsonb) AS r
)
UPDATE pg_queue_message AS m
SET progress = jsonb_build_object(
    'done', report.done, 'total', report.total, 'stage', report.stage, 'at', clock_timestamp()
)
FROM report
WHERE m.id = ANY (ARRAY(SELECT id FROM report)) AND m.id = report.id AND COALESCE(m.claim_token = report.token, false)
RETURNING report.token

-- name: release
-- Give back claims whose execution never began; they keep their place and the attempt is not counted.
WITH given_back AS (
    UPDATE pg_queue_message AS m
    SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, started_at = NULL, attempts = m.attempts - 1
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
    WHERE m.id = ANY (%(ids)s::uuid[]) AND m.id = held.id AND COALESCE(m.claim_token = held.token, false)
    RETURNING held.token, m.namespace, m.queue
),
woken AS (
    SELECT pg_notify('pg_queue', namespace || ' ' || queue) FROM (SELECT DISTINCT namespace, queue FROM given_back) AS q
)
SELECT token FROM given_back WHERE (SELECT count(*) FROM woken) >= 0

-- name: overdue
-- For how long the oldest lease of all namespaces has run out; null: none has.
SELECT extract(epoch FROM now() - min(lease_until))::double precision
FROM pg_queue_message
WHERE claim_token IS NOT NULL AND lease_until <= now()

-- name: depths
-- Exact figures per queue; reads the whole table, for a scrape or a person.
SELECT
    queue,
    sum(waiting)::bigint AS waiting, sum(delayed)::bigint AS delayed, sum(running)::bigint AS running,
    sum(dead)::bigint AS dead, max(oldest)::double precision AS oldest_due_seconds
FROM (
    SELECT
        queue,
        count(*) FILTER (WHERE claim_token IS NULL AND run_after <= now()) AS waiting,
        count(*) FILTER (WHERE claim_token IS NULL AND run_after > now()) AS delayed,
        count(*) FILTER (WHERE claim_token IS NOT NULL) AS running,
        0 AS dead,
        coalesce(
            extract(epoch FROM now() - min(run_after) FILTER (WHERE claim_token IS NULL AND run_after <= now())), 0
        ) AS oldest
    FROM pg_queue_message
    WHERE namespace = %(namespace)s
    GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, 0, count(*), 0 FROM pg_queue_deadletter WHERE namespace = %(namespace)s GROUP BY queue
) AS part
GROUP BY queue
ORDER BY queue

-- name: next_due
-- Seconds until the next unclaimed message of these queues is due; null without one. Queues that are off have none.
SELECT extract(epoch FROM min(due.run_after) - now())::double precision AS seconds
FROM unnest(%(queues)s::text[]) AS q (name)
CROSS JOIN generate_series(1, 10) AS p (priority)
CROSS JOIN LATERAL (
    SELECT m.run_after
    FROM pg_queue_message AS m
    WHERE m.namespace = %(namespace)s AND m.queue = q.name AND m.priority = p.priority AND m.claim_token IS NULL
    ORDER BY m.run_after, m.sequence
    LIMIT 1
) AS due
WHERE NOT ARRAY[q.name, ''] && ARRAY(
    SELECT s.queue::text FROM pg_queue_switch AS s WHERE s.namespace = %(namespace)s AND NOT s.is_on
)
