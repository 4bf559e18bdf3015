-- name: publish
-- Store one message, and wake who waits for its queue. No row: its id is that of a message which still lives.
WITH stored AS (
    INSERT INTO pg_queue_message (
        namespace, id, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to, max_attempts
    )
    VALUES (
        %(namespace)s, %(id)s, %(queue)s, %(priority)s, GREATEST(%(run_after)s::timestamptz, now()), %(task)s,
        %(args)s::jsonb, %(kwargs)s::jsonb, %(headers)s::jsonb, %(organization_id)s, %(report_to)s, %(max_attempts)s
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
woken AS (
    SELECT pg_notify('pg_queue', %(waker)s) FROM stored WHERE %(waker)s::text IS NOT NULL
)
SELECT id FROM stored WHERE (SELECT count(*) FROM woken) >= 0

-- name: take_over
-- Let a held message wait again with what its own task has just published under its id: a retry. Who still holds the
-- claim has lost it, so what it says of the message later changes nothing. No row: this claim does not hold it.
WITH waiting AS (
    UPDATE pg_queue_message
    SET queue = %(queue)s, priority = %(priority)s, run_after = GREATEST(%(run_after)s::timestamptz, now()),
        task = %(task)s, args = %(args)s::jsonb, kwargs = %(kwargs)s::jsonb, headers = %(headers)s::jsonb,
        attempts = 0, claim_token = NULL, claimed_by = NULL, lease_until = NULL, started_at = NULL
    WHERE id = %(id)s AND claim_token = %(token)s
    RETURNING id
),
woken AS (
    SELECT pg_notify('pg_queue', %(waker)s) FROM waiting WHERE %(waker)s::text IS NOT NULL
)
SELECT id FROM waiting WHERE (SELECT count(*) FROM woken) >= 0

-- name: post
-- Put a payload into a transient queue. No row: there is no such queue.
WITH posted AS (
    INSERT INTO pg_queue_broadcast (namespace, queue, payload)
    SELECT q.namespace, q.name, %(payload)s
    FROM pg_queue_brokerqueue AS q
    WHERE q.namespace = %(namespace)s AND q.name = %(queue)s AND q.is_transient
    RETURNING queue
)
SELECT pg_notify('pg_queue', %(namespace)s || ' ' || queue) FROM posted

-- name: route
-- Put a payload into each transient queue that the exchange leads to; the others are returned, for it to be stored there.
WITH target AS (
    SELECT DISTINCT q.name, q.is_transient
    FROM pg_queue_binding AS b
    JOIN pg_queue_brokerqueue AS q ON q.namespace = b.namespace AND q.name = b.queue
    WHERE b.namespace = %(namespace)s AND b.exchange = %(exchange)s
        AND CASE b.kind
            WHEN 'fanout' THEN true
            WHEN 'topic' THEN %(routing_key)s ~ b.pattern
            ELSE b.routing_key = %(routing_key)s
        END
),
posted AS (
    INSERT INTO pg_queue_broadcast (namespace, queue, payload)
    SELECT %(namespace)s, t.name, %(payload)s FROM target AS t WHERE t.is_transient
    RETURNING queue
),
woken AS (
    SELECT pg_notify('pg_queue', %(namespace)s || ' ' || queue) FROM posted
)
SELECT name FROM target WHERE NOT is_transient AND (SELECT count(*) FROM woken) >= 0 ORDER BY name

-- name: take
-- Take the oldest payloads of these transient queues.
WITH taken AS (
    DELETE FROM pg_queue_broadcast
    WHERE sequence = ANY (ARRAY(
        SELECT b.sequence
        FROM pg_queue_broadcast AS b
        WHERE b.namespace = %(namespace)s AND b.queue = ANY (%(queues)s::text[])
        ORDER BY b.sequence
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING sequence, queue, payload
)
SELECT queue, payload FROM taken ORDER BY sequence

-- name: declare
-- Write a queue down, or that it is needed for longer.
INSERT INTO pg_queue_brokerqueue (namespace, name, is_transient, is_exclusive, ttl_seconds, expires_at)
VALUES (
    %(namespace)s, %(queue)s, %(is_transient)s, %(is_exclusive)s, %(ttl)s,
    now() + make_interval(secs => %(ttl)s::double precision)
)
ON CONFLICT (namespace, name) DO UPDATE
    SET expires_at = now() + make_interval(secs => pg_queue_brokerqueue.ttl_seconds)
    WHERE pg_queue_brokerqueue.ttl_seconds IS NOT NULL

-- name: touch
-- Say that these queues are in use, and return those among them that there are.
WITH touched AS (
    UPDATE pg_queue_brokerqueue
    SET expires_at = now() + make_interval(secs => ttl_seconds)
    WHERE namespace = %(namespace)s AND name = ANY (%(queues)s::text[]) AND ttl_seconds IS NOT NULL
)
SELECT name FROM pg_queue_brokerqueue WHERE namespace = %(namespace)s AND name = ANY (%(queues)s::text[])

-- name: own
-- Hold an exclusive queue for as long as this session lives; false: another session does.
SELECT pg_try_advisory_lock(hashtextextended('pg_queue.exclusive ' || %(namespace)s || ' ' || %(queue)s, 0))

-- name: disown
-- Give it up.
SELECT pg_advisory_unlock(hashtextextended('pg_queue.exclusive ' || %(namespace)s || ' ' || %(queue)s, 0))

-- name: bind
-- Lead what an exchange gets to a queue.
INSERT INTO pg_queue_binding (namespace, exchange, kind, routing_key, pattern, queue)
VALUES (%(namespace)s, %(exchange)s, %(kind)s, %(routing_key)s, %(pattern)s, %(queue)s)
ON CONFLICT (namespace, exchange, routing_key, queue) DO UPDATE
    SET kind = EXCLUDED.kind, pattern = EXCLUDED.pattern
    WHERE pg_queue_binding.kind <> EXCLUDED.kind

-- name: unbind
-- Lead it there no longer.
DELETE FROM pg_queue_binding
WHERE namespace = %(namespace)s AND exchange = %(exchange)s AND routing_key = %(routing_key)s AND queue = %(queue)s

-- name: bindings
-- What an exchange leads to.
SELECT queue, exchange, routing_key FROM pg_queue_binding WHERE namespace = %(namespace)s ORDER BY exchange, queue

-- name: exists
-- Whether a queue was declared, or has messages.
SELECT EXISTS (
    SELECT FROM pg_queue_brokerqueue WHERE namespace = %(namespace)s AND name = %(queue)s
) OR EXISTS (
    SELECT FROM pg_queue_message WHERE namespace = %(namespace)s AND queue = %(queue)s
)

-- name: look_up
-- How a queue was declared.
SELECT is_transient, is_exclusive, ttl_seconds FROM pg_queue_brokerqueue WHERE namespace = %(namespace)s AND name = %(queue)s

-- name: size
-- How many messages a consumer of the queue would get at once.
SELECT (
    SELECT count(*)
    FROM pg_queue_message
    WHERE namespace = %(namespace)s AND queue = %(queue)s AND claim_token IS NULL AND run_after <= now()
) + (
    SELECT count(*) FROM pg_queue_broadcast WHERE namespace = %(namespace)s AND queue = %(queue)s
)

-- name: purge
-- Delete what waits in a queue, for its turn or for its time, and from whose end nothing follows.
WITH gone AS (
    DELETE FROM pg_queue_message
    WHERE id = ANY (ARRAY(
        SELECT m.id
        FROM pg_queue_message AS m
        WHERE m.namespace = %(namespace)s AND m.queue = %(queue)s AND m.claim_token IS NULL
            AND m.key IS NULL AND m.barrier_id IS NULL AND m.continuations IS NULL AND m.report_to IS NULL
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING id
),
heard AS (
    DELETE FROM pg_queue_broadcast WHERE namespace = %(namespace)s AND queue = %(queue)s RETURNING sequence
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM heard)

-- name: waiting
-- The ids of what waits in a queue.
SELECT id FROM pg_queue_message WHERE namespace = %(namespace)s AND queue = %(queue)s AND claim_token IS NULL LIMIT 1000

-- name: delete
-- Forget a queue, its bindings and its broadcasts.
WITH unbound AS (
    DELETE FROM pg_queue_binding WHERE namespace = %(namespace)s AND queue = %(queue)s
),
unheard AS (
    DELETE FROM pg_queue_broadcast WHERE namespace = %(namespace)s AND queue = %(queue)s
)
DELETE FROM pg_queue_brokerqueue WHERE namespace = %(namespace)s AND name = %(queue)s

-- name: give_back
-- Let messages wait again that were handed over and not acknowledged, in their old place. The attempt counts, but is
-- never the last one: a broker hands over as often as it takes.
WITH given_back AS (
    UPDATE pg_queue_message AS m
    SET claim_token = NULL, claimed_by = NULL, lease_until = NULL, started_at = NULL,
        attempts = LEAST(m.attempts, m.max_attempts - 1)
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
    WHERE m.id = ANY (%(ids)s::uuid[]) AND m.id = held.id AND COALESCE(m.claim_token = held.token, false)
    RETURNING held.token, m.namespace, m.queue
),
woken AS (
    SELECT pg_notify('pg_queue', namespace || ' ' || queue) FROM (SELECT DISTINCT namespace, queue FROM given_back) AS q
)
SELECT token FROM given_back WHERE (SELECT count(*) FROM woken) >= 0

-- name: spend
-- Note that held messages are not to be handed over again, whatever becomes of their worker: they were acknowledged, and
-- somebody still waits for their end.
UPDATE pg_queue_message AS m
SET attempts = m.max_attempts
FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
WHERE m.id = ANY (%(ids)s::uuid[]) AND m.id = held.id AND COALESCE(m.claim_token = held.token, false)

-- name: sweep
-- Delete queues that nobody has touched for their time to live, or whose exclusive owner's session is gone, with their
-- bindings and all that is in them.
WITH dead AS MATERIALIZED (
    SELECT q.id, q.namespace, q.name
    FROM pg_queue_brokerqueue AS q
    WHERE q.expires_at IS NOT NULL AND (
        q.expires_at <= now()
        OR CASE WHEN q.is_exclusive THEN pg_try_advisory_xact_lock(
            hashtextextended('pg_queue.exclusive ' || q.namespace || ' ' || q.name, 0)
        ) END
    )
    ORDER BY q.id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
unbound AS (
    DELETE FROM pg_queue_binding AS b USING dead WHERE b.namespace = dead.namespace AND b.queue = dead.name
),
unheard AS (
    DELETE FROM pg_queue_broadcast AS b USING dead WHERE b.namespace = dead.namespace AND b.queue = dead.name
),
unread AS (
    DELETE FROM pg_queue_message AS m
    USING dead
    WHERE m.namespace = dead.namespace AND m.queue = dead.name AND m.claim_token IS NULL
)
DELETE FROM pg_queue_brokerqueue AS q USING dead WHERE q.id = dead.id

-- name: has_tables
-- Whether the broker's tables are there.
SELECT to_regclass('pg_queue_brokerqueue') IS NOT NULL AND to_regclass('pg_queue_message') IS NOT NULL

-- name: relax
-- Do not wait for the disk at each commit of this session: what a crash of the server undoes is handed over again.
SET synchronous_commit = off

-- name: unlisten
-- Hear no more.
UNLISTEN pg_queue
