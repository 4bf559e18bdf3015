-- name: open
-- Store a barrier that waits for its members.
INSERT INTO pg_queue_barrier (id, namespace, state, remaining, callback_id, created_at, ended_at)
VALUES (:id, :namespace, :state, :remaining, :callback_id, :now, :ended_at)

-- name: plan
-- Store what it waits for, and what follows.
INSERT INTO pg_queue_barrierplan (barrier_id, member_ids, callback, on_abort)
VALUES (:id, :member_ids, :callback, :on_abort)

-- name: count_down
-- So many members have succeeded. Nothing changes once the barrier has ended.
UPDATE pg_queue_barrier
SET remaining = remaining - :count,
    state = CASE WHEN remaining = :count THEN 'done' ELSE 'open' END,
    ended_at = CASE WHEN remaining = :count THEN :now END
WHERE id = :id AND state = 'open'
RETURNING namespace, state

-- name: abort
-- A member has failed for good or was cancelled. Nothing changes once the barrier has ended.
UPDATE pg_queue_barrier
SET state = 'aborted', culprit_id = :culprit_id, ended_at = :now
WHERE id = :id AND state = 'open'
RETURNING namespace, state

-- name: follow_up
-- What follows the end of a barrier.
SELECT callback, on_abort FROM pg_queue_barrierplan WHERE barrier_id = :id

-- name: get
-- Barriers by id.
SELECT b.id, p.member_ids, b.remaining, b.state, b.callback_id, b.culprit_id, +b.created_at, +b.ended_at
FROM json_each(:ids) AS wanted
CROSS JOIN pg_queue_barrier AS b
CROSS JOIN pg_queue_barrierplan AS p
WHERE b.id = wanted.value AND b.namespace = :namespace AND p.barrier_id = b.id

-- name: retain
-- Barriers that ended before this instant.
SELECT id FROM pg_queue_barrier WHERE ended_at <= :before ORDER BY ended_at LIMIT :limit

-- name: forget_plan
-- Delete a barrier's plan.
DELETE FROM pg_queue_barrierplan WHERE barrier_id = :id

-- name: forget
-- Delete a barrier whose plan is gone.
DELETE FROM pg_queue_barrier WHERE id = :id
