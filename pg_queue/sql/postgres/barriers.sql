-- name: create
-- Store a barrier and what it waits for; without members it is done.
WITH opened AS (
    INSERT INTO pg_queue_barrier (id, namespace, state, remaining, callback_id, ended_at)
    SELECT
        %(id)s::uuid, %(namespace)s, CASE n WHEN 0 THEN 'done' ELSE 'open' END, n, %(callback_id)s::uuid,
        CASE n WHEN 0 THEN now() END
    FROM jsonb_array_length(%(member_ids)s::jsonb) AS n
)
INSERT INTO pg_queue_barrierplan (barrier_id, member_ids, callback, on_abort)
VALUES (%(id)s::uuid, %(member_ids)s::jsonb, %(callback)s::jsonb, %(on_abort)s::jsonb)

-- name: get
-- Barriers by id, with what they wait for.
SELECT
    b.id, p.member_ids::text, b.remaining, b.state, b.callback_id, b.culprit_id, b.created_at, b.ended_at
FROM pg_queue_barrier AS b
JOIN pg_queue_barrierplan AS p ON p.barrier_id = b.id
WHERE b.namespace = %(namespace)s AND b.id = ANY (%(ids)s::uuid[])

-- name: count_down
-- Tell barriers what became of their members, in one order among all who do so. Answers what is to be enqueued now.
-- The lock is taken before the row is read: who waited for it goes by what the one before has left.
WITH ended AS (
    SELECT *
    FROM unnest(%(ids)s::uuid[], %(succeeded)s::integer[], %(culprits)s::uuid[]) AS e (id, succeeded, culprit_id)
),
held AS (
    SELECT id FROM pg_queue_barrier WHERE id = ANY (%(ids)s::uuid[]) AND state = 'open' ORDER BY id FOR UPDATE
),
told AS (
    UPDATE pg_queue_barrier AS b
    SET remaining = GREATEST(b.remaining - ended.succeeded, num_nonnulls(ended.culprit_id)),
        culprit_id = ended.culprit_id,
        state = CASE
            WHEN ended.culprit_id IS NOT NULL THEN 'aborted'
            WHEN b.remaining <= ended.succeeded THEN 'done'
            ELSE 'open'
        END,
        ended_at = CASE
            WHEN ended.culprit_id IS NOT NULL OR b.remaining <= ended.succeeded THEN clock_timestamp()
        END
    FROM ended
    WHERE b.id = ANY (ARRAY(SELECT id FROM held)) AND b.id = ended.id
    RETURNING b.id, b.namespace, b.state
)
SELECT told.id, told.namespace, (CASE told.state WHEN 'done' THEN plan.callback ELSE plan.on_abort END)::text AS parcel
FROM told
JOIN pg_queue_barrierplan AS plan ON plan.barrier_id = told.id
WHERE told.state <> 'open'

-- name: retain
-- Delete barriers that ended so long ago, and their plans.
WITH gone AS (
    SELECT id FROM pg_queue_barrier
    WHERE ended_at <= now() - make_interval(secs => %(ttl)s)
    ORDER BY ended_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
plans AS (
    DELETE FROM pg_queue_barrierplan WHERE barrier_id = ANY (ARRAY(SELECT id FROM gone))
)
DELETE FROM pg_queue_barrier WHERE id = ANY (ARRAY(SELECT id FROM gone))
