-- name: make_durable
-- Have this transaction wait for the disk: once it has committed, the other broker is told to forget.
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'

-- name: remember
-- Note that these deliveries were taken over; returned are those of which that was not known. Waits for a transaction
-- that notes the same. A note is an idempotency key of no message: it is there to expire.
INSERT INTO pg_queue_key AS k (namespace, key, message_id, ttl_seconds, expires_at)
SELECT
    %(namespace)s, key, gen_random_uuid(), %(ttl)s::double precision,
    statement_timestamp() + make_interval(secs => %(ttl)s::double precision)
FROM unnest(%(keys)s::text[]) AS given (key)
ORDER BY key
ON CONFLICT (namespace, key) DO UPDATE
    SET expires_at = EXCLUDED.expires_at
    WHERE k.expires_at <= statement_timestamp()
RETURNING k.key

-- name: store
-- Store messages given as one JSON array of arrays, in its order; returned are the ids that were free.
INSERT INTO pg_queue_message (
    namespace, id, queue, priority, run_after, task, args, kwargs, headers, organization_id, report_to, max_attempts
)
SELECT
    %(namespace)s, (m ->> 0)::uuid, m ->> 1, (m ->> 2)::smallint, GREATEST((m ->> 3)::timestamptz, now()),
    m ->> 4, m -> 5, m -> 6, m -> 7, m ->> 8, m ->> 9, (m ->> 10)::smallint
FROM jsonb_array_elements(%(messages)s::jsonb) AS m
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: wake
-- Wake who waits for these queues, when the transaction commits.
SELECT pg_notify('pg_queue', waker) FROM unnest(%(wakers)s::text[]) AS waker
