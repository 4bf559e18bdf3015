-- name: now
-- The clock that a change goes by: at this statement, not at the transaction's start.
SELECT clock_timestamp()

-- name: wake_scheduler
-- Tells the leader that a schedule changed; delivered when this transaction commits.
SELECT pg_notify('downbeat_schedules', %(schedule_id)s::text)

-- name: listen
-- The leader's ear for it.
LISTEN downbeat_schedules

-- name: is_serializable
-- Whether a failure in a savepoint could still doom this transaction's commit.
SELECT current_setting('transaction_isolation') = 'serializable'

-- name: deferrable_constraints
-- Constraints of a table that could fail only at the caller's commit.
SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%(relation)s::text) AND condeferrable

-- name: check_constraints
-- Check these now.
SET CONSTRAINTS {names} IMMEDIATE

-- name: set_bounds
-- Bounds the statements that follow in this transaction; answers what held before.
WITH held AS MATERIALIZED (
    SELECT current_setting('lock_timeout') AS lock_timeout, current_setting('statement_timeout') AS statement_timeout
)
SELECT lock_timeout, statement_timeout,
       set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('statement_timeout', %(statement_timeout)s, true)
FROM held
