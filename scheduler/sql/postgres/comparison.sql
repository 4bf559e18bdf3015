-- name: occurrences
-- What the shadow would have fired beside what Beat sent, each occurrence once, by schedule and instant. Only sends that
-- were published, or may have been, count. The bounds of `scheduled_for` let the planner leave out the other months.
WITH expected AS (
    SELECT schedule_id, scheduled_for
    FROM scheduler_schedulerun
    WHERE origin = 'shadow' AND state = 'fired'
      AND scheduled_for >= %(since)s AND scheduled_for < %(until)s
      AND (%(schedules)s::uuid[] IS NULL OR schedule_id = ANY (%(schedules)s::uuid[]))
),
sent AS (
    SELECT schedule_id, scheduled_for, array_agg(sent_at ORDER BY sent_at, id) AS sent_ats,
           array_agg(process_id ORDER BY sent_at, id) AS process_ids
    FROM scheduler_beatsend
    WHERE state IN ('sent', 'claimed')
      AND scheduled_for >= %(since)s AND scheduled_for < %(until)s
      AND schedule_id IS NOT NULL
      AND (%(schedules)s::uuid[] IS NULL OR schedule_id = ANY (%(schedules)s::uuid[]))
    GROUP BY schedule_id, scheduled_for
)
SELECT schedule_id, scheduled_for, expected.scheduled_for IS NOT NULL AS is_expected,
       EXISTS (
           SELECT FROM scheduler_schedulerun AS run
           WHERE run.schedule_id = sent.schedule_id AND run.scheduled_for = sent.scheduled_for
             AND run.origin = 'schedule' AND run.firer = 'pg'
             AND run.scheduled_for >= %(since)s AND run.scheduled_for < %(until)s
       ) AS is_pgs,
       coalesce(sent_ats, '{}'), coalesce(process_ids, '{}')
FROM expected
FULL JOIN sent USING (schedule_id, scheduled_for)
ORDER BY schedule_id, scheduled_for

-- name: unfired
-- Stretches that the shadow, or a pause, left out.
SELECT schedule_id, scheduled_for, coalesce(span_end, scheduled_for), state
FROM scheduler_schedulerun
WHERE (origin = 'shadow' OR state = 'paused') AND state NOT IN ('fired', 'running', 'succeeded', 'failed', 'relayed')
  AND scheduled_for < %(until)s AND coalesce(span_end, scheduled_for) >= %(since)s
  AND (%(schedules)s::uuid[] IS NULL OR schedule_id = ANY (%(schedules)s::uuid[]))

-- name: lives
-- When each process of Celery Beat lived; one that was killed, until 2 s after it was last heard of. Also those from
-- after the window, which may have sent what was due in it.
SELECT id, started_at, coalesce(stopped_at, heartbeat_at + interval '2 seconds')
FROM scheduler_beatprocess
WHERE coalesce(stopped_at, heartbeat_at + interval '2 seconds') >= %(since)s - interval '1 hour'
  AND started_at < %(until)s + interval '1 hour'
ORDER BY started_at

-- name: changes
-- When the schedules were changed, and how: what was enabled in Beat's own row, or by an edit, was resumed all the same.
-- A change from after the window may be why Beat sent only then what was due in it.
SELECT schedule_id, changed_at,
       CASE WHEN fields #>> '{enabled,1}' = 'true' THEN 'resume' ELSE action END
FROM scheduler_schedulechange
WHERE changed_at >= %(since)s - interval '1 hour' AND changed_at < %(until)s + interval '1 hour'
  AND (%(schedules)s::uuid[] IS NULL OR schedule_id = ANY (%(schedules)s::uuid[]))
ORDER BY changed_at
