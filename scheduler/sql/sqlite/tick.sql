-- name: due
-- The next due rows, oldest first, as the decision needs them: read before the batch's transaction, for what is to be
-- evaluated, and again in it, where nobody else can write.
SELECT pipeline_id, kind, cron_string, timezone, dialect, next_run_at, ends_at, beat_from, make_up_until, grace_seconds,
       catch_up, overlap, interval_seconds, coalesce(run_limit <= run_count + 1, 0) AS is_last,
       CASE WHEN overlap <> 'allow' AND last_run_id IS NOT NULL THEN {is_unsettled} ELSE 0 END AS is_blocked,
       organization_id, queue, jitter_seconds
FROM scheduler_pgperiodicschedule
WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND hold IS NULL
  AND next_run_at <= :at
  AND (next_run_at, pipeline_id) > (:after_at, :after_id)
ORDER BY next_run_at, pipeline_id
LIMIT :limit

-- name: taken
-- Which of these occurrences the ledger has.
SELECT run.schedule_id
FROM json_each(:occurrences) AS occurrence
CROSS JOIN scheduler_schedulerun AS run
WHERE run.schedule_id = occurrence.value ->> 0 AND run.scheduled_for = occurrence.value ->> 1
  AND run.origin = 'schedule'

-- name: advance
-- Move a row on, or set it aside.
UPDATE scheduler_pgperiodicschedule
SET next_run_at = :next_run_at,
    last_run_at = CASE WHEN :is_fired THEN :latest ELSE last_run_at END,
    last_run_id = CASE WHEN :is_fired THEN :id ELSE last_run_id END,
    run_count = run_count + :is_fired,
    hold = :hold,
    quarantined_at = :quarantined_at,
    quarantine_error = :error
WHERE pipeline_id = :schedule_id

-- name: fire
-- Record an occurrence that is fired.
INSERT INTO scheduler_schedulerun
    (id, schedule_id, organization_id, scheduled_for, origin, occurrences, firer, state, term, fired_at, recorded_at)
VALUES (:id, :schedule_id, :organization_id, :latest, 'schedule', 1, 'pg', 'fired', :term, :now, :now)

-- name: enqueue
-- Store its message, from the row that was advanced.
WITH firing AS (
    SELECT :id AS id, queue, priority, task, args, kwargs, :headers AS headers, organization_id,
           :report_to AS report_to, max_attempts, :run_after AS run_after
    FROM scheduler_pgperiodicschedule
    WHERE pipeline_id = :schedule_id
)
{enqueue}

-- name: is_followed
-- Whether the run before was taken by another store that has not told its end, and not so long ago that it never will.
EXISTS (
    SELECT 1 FROM scheduler_schedulerun AS followed
    WHERE followed.id = last_run_id AND followed.state = 'fired'
      AND followed.relayed_at > datetime('now', '-{hours} hours')
)

-- name: pass_over
-- Record occurrences that are not fired.
INSERT INTO scheduler_schedulerun
    (id, schedule_id, organization_id, scheduled_for, origin, span_end, occurrences, firer, state, term, recorded_at)
VALUES (:id, :schedule_id, :organization_id, :first, 'schedule', :last, :occurrences, 'pg', :state, :term, :now)
ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING

-- name: quarantine
-- Set a row aside that made its batch fail.
UPDATE scheduler_pgperiodicschedule SET quarantined_at = :now, quarantine_error = :error
WHERE pipeline_id = :schedule_id

-- name: release_held
-- Let go of the schedules whose run has ended: they are due, and the next batch decides.
UPDATE scheduler_pgperiodicschedule
SET hold = NULL
WHERE pipeline_id IN (
    SELECT pipeline_id FROM scheduler_pgperiodicschedule
    WHERE hold = 'overlap' AND NOT {is_unsettled}
    ORDER BY pipeline_id
    LIMIT :limit
)

-- name: next_due
-- The earliest due instant (null: nothing is planned), and whether a schedule waits for the end of its run.
SELECT (
           SELECT next_run_at
           FROM scheduler_pgperiodicschedule
           WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND hold IS NULL AND next_run_at IS NOT NULL
           ORDER BY next_run_at, pipeline_id
           LIMIT 1
       ),
       EXISTS (SELECT 1 FROM scheduler_pgperiodicschedule WHERE hold = 'overlap' AND enabled)

-- name: version
-- A number that is another one when somebody else has committed something.
PRAGMA data_version
