-- name: figures
-- For /metrics: the earliest due instant, schedules in quarantine, and schedules by who fires them.
SELECT (
           SELECT next_run_at FROM scheduler_pgperiodicschedule
           WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND hold IS NULL AND next_run_at IS NOT NULL
           ORDER BY next_run_at LIMIT 1
       ),
       (SELECT count(*) FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL),
       (SELECT count(*) FROM scheduler_pgperiodicschedule)

-- name: write_back
-- Carry outcomes into the ledger. What is final stays as it is, but for a failure whose dead letter was replayed: its
-- later end replaces it.
UPDATE scheduler_schedulerun
SET state = outcome.value ->> 2, started_at = outcome.value ->> 3, finished_at = outcome.value ->> 4,
    result = outcome.value ->> 5, error = outcome.value ->> 6
FROM json_each(%(outcomes)s) AS outcome
WHERE scheduler_schedulerun.id = outcome.value ->> 0 AND scheduled_for = outcome.value ->> 1
  AND (state IN ('fired', 'running', 'relayed') OR (state = 'failed' AND finished_at < outcome.value ->> 4))
RETURNING schedule_id, origin, state, +finished_at

-- name: note_relayed
-- Another system has taken these runs. Where their outcomes will not come, that is all that is ever known of them.
UPDATE scheduler_schedulerun
SET relayed_at = coalesce(relayed_at, %(now)s),
    state = CASE WHEN state = 'fired' AND NOT %(has_outcomes)s THEN 'relayed' ELSE state END
FROM json_each(%(taken)s) AS taken
WHERE scheduler_schedulerun.id = taken.value ->> 0 AND scheduled_for = taken.value ->> 1

-- name: hold_counted
-- The schedules that count their failures. This transaction has the file to itself.
SELECT pipeline_id FROM scheduler_pgperiodicschedule
WHERE pipeline_id IN (SELECT value FROM json_each(%(schedules)s)) AND pause_after_failures IS NOT NULL

-- name: count_failures
-- Failures in a row: those after the last success, and with those before where there is no success.
UPDATE scheduler_pgperiodicschedule
SET failures_in_a_row = (outcome.value ->> 1) + CASE WHEN outcome.value ->> 2 THEN 0 ELSE failures_in_a_row END
FROM json_each(%(counts)s) AS outcome
WHERE pipeline_id = outcome.value ->> 0

-- name: forget_runs
-- Forget one batch of old runs. A stretch is as old as its end.
DELETE FROM scheduler_schedulerun
WHERE id IN (
    SELECT id FROM scheduler_schedulerun
    WHERE coalesce(span_end, scheduled_for) < datetime('now', '-' || %(days)s || ' days')
    LIMIT %(limit)s
)

-- name: forget_changes
-- Forget one batch of old notes of changes.
DELETE FROM scheduler_schedulechange
WHERE id IN (
    SELECT id FROM scheduler_schedulechange
    WHERE changed_at < datetime('now', '-' || %(days)s || ' days')
    ORDER BY changed_at
    LIMIT %(limit)s
)
