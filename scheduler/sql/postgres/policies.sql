-- name: resumable
-- Paused schedules whose pause has come to its end, but for those whose mirror could not be written just now: each try
-- writes Beat's row anew.
SELECT pipeline_id
FROM scheduler_pgperiodicschedule AS schedule
WHERE NOT enabled AND paused_until <= statement_timestamp()
  AND NOT EXISTS (
      SELECT FROM scheduler_mirrorfailure AS failure
      WHERE failure.schedule_id = schedule.pipeline_id AND failure.repaired_at IS NULL
        AND failure.failed_at >= statement_timestamp() - make_interval(secs => %(patience_seconds)s)
  )
ORDER BY paused_until
LIMIT %(limit)s

-- name: failing
-- Schedules that fail as often in a row as they may, with the same exception.
SELECT pipeline_id
FROM scheduler_pgperiodicschedule AS schedule
WHERE enabled AND failures_in_a_row >= pause_after_failures
  AND NOT EXISTS (
      SELECT FROM scheduler_mirrorfailure AS failure
      WHERE failure.schedule_id = schedule.pipeline_id AND failure.repaired_at IS NULL
        AND failure.failed_at >= statement_timestamp() - make_interval(secs => %(patience_seconds)s)
  )
LIMIT %(limit)s
