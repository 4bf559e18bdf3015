-- name: hold_mirrors
-- The mirrors of Beat's entries, held until the transaction ends, in one order.
SELECT pipeline_id, beat_name, organization_id, kind, cron_string, timezone, dialect, firer, enabled, next_run_at,
       beat_from, updated_at
FROM scheduler_pgperiodicschedule
WHERE beat_name = ANY (%(names)s::text[])
ORDER BY pipeline_id
FOR NO KEY UPDATE {wait}

-- name: read_mirrors
-- The same, held by nobody here.
SELECT pipeline_id, beat_name, organization_id, kind, cron_string, timezone, dialect, firer, enabled, next_run_at,
       beat_from, updated_at
FROM scheduler_pgperiodicschedule
WHERE beat_name = ANY (%(names)s::text[])

-- name: earlier_sends
-- Of each schedule, the last send that had its occurrence first.
SELECT schedule.id, earlier.sent_at, earlier.scheduled_for, earlier.process_id
FROM unnest(%(ids)s::uuid[]) AS schedule (id)
CROSS JOIN LATERAL (
    SELECT sent_at, scheduled_for, process_id
    FROM scheduler_beatsend
    WHERE schedule_id = schedule.id AND scheduled_for IS NOT NULL AND is_first AND state IN ('claimed', 'sent')
    ORDER BY scheduled_for DESC
    LIMIT 1
) AS earlier

-- name: recorded
-- Which of these sends a transaction has recorded whose end this process did not hear of.
SELECT message_id, id, schedule_id, scheduled_for, sent_at, is_first, state
FROM scheduler_beatsend
WHERE beat_name = ANY (%(names)s::text[]) AND message_id = ANY (%(message_ids)s::text[])
  AND process_id = %(process)s AND recorded_at > clock_timestamp() - interval '1 day'

-- name: record
-- Record sends, and in the ledger the occurrences that were free: without a row, or with one that only says why nothing
-- was fired for it. Each row of the ledger is made by the first send for it. With `is_gate` a claim that finds its
-- occurrence taken is refused.
WITH send AS (
    SELECT *
    FROM unnest(
        %(beat_names)s::text[], %(schedule_ids)s::uuid[], %(organization_ids)s::text[], %(message_ids)s::text[],
        %(scheduled_fors)s::timestamptz[], %(sent_ats)s::timestamptz[], %(states)s::text[], %(are_claiming)s::boolean[]
    ) WITH ORDINALITY AS s (
        beat_name, schedule_id, organization_id, message_id, scheduled_for, sent_at, state, is_claiming, number
    )
),
claiming AS (
    SELECT DISTINCT ON (schedule_id, scheduled_for) *
    FROM send
    WHERE is_claiming AND schedule_id IS NOT NULL AND scheduled_for IS NOT NULL
    ORDER BY schedule_id, scheduled_for, number
),
taken AS (
    INSERT INTO scheduler_schedulerun AS run
        (id, schedule_id, organization_id, scheduled_for, origin, firer, state, fired_at)
    SELECT gen_random_uuid(), schedule_id, organization_id, scheduled_for, 'schedule', 'beat', 'fired', sent_at
    FROM claiming
    ORDER BY schedule_id, scheduled_for
    ON CONFLICT (schedule_id, scheduled_for, origin) DO UPDATE
    SET firer = 'beat', state = 'fired', fired_at = excluded.fired_at, error = NULL
    WHERE run.span_end IS NULL AND run.state NOT IN ('fired', 'running', 'succeeded', 'failed', 'relayed')
    RETURNING schedule_id, scheduled_for
)
INSERT INTO scheduler_beatsend
    (process_id, beat_name, schedule_id, message_id, scheduled_for, sent_at, is_first, state)
SELECT %(process)s, beat_name, schedule_id, message_id, scheduled_for, sent_at, is_first,
       CASE WHEN %(is_gate)s AND state = 'claimed' AND NOT is_first THEN 'refused' ELSE state END
FROM (
    SELECT send.*, taken.schedule_id IS NOT NULL AS is_first
    FROM send
    LEFT JOIN claiming ON claiming.number = send.number
    LEFT JOIN taken ON taken.schedule_id = claiming.schedule_id AND taken.scheduled_for = claiming.scheduled_for
) AS judged
ORDER BY number
RETURNING id, message_id, schedule_id, scheduled_for, sent_at, is_first, state

-- name: advance_mirrors
-- What the mirror knows of its schedule after a send. An interval is counted from the last send, so its next occurrence
-- is one period after that, whatever the shadow has made of it. `following` moves a paused schedule past an occurrence
-- that was sent all the same: what resuming it lists as paused then begins after it.
UPDATE scheduler_pgperiodicschedule AS schedule
SET last_run_at = greatest(schedule.last_run_at, sent.scheduled_for),
    run_count = schedule.run_count + sent.firsts,
    next_run_at = CASE
        WHEN schedule.run_limit <= schedule.run_count + sent.firsts THEN NULL
        WHEN schedule.kind <> 'interval' THEN
            CASE WHEN sent.following >= schedule.ends_at THEN NULL
                 ELSE coalesce(sent.following, schedule.next_run_at) END
        WHEN sent.sent_at + make_interval(secs => schedule.interval_seconds) >= schedule.ends_at THEN NULL
        ELSE sent.sent_at + make_interval(secs => schedule.interval_seconds)
    END
FROM unnest(
    %(ids)s::uuid[], %(scheduled_fors)s::timestamptz[], %(sent_ats)s::timestamptz[], %(firsts)s::integer[],
    %(followings)s::timestamptz[]
) AS sent (id, scheduled_for, sent_at, firsts, following)
WHERE schedule.pipeline_id = sent.id AND schedule.firer = 'beat'

-- name: settle
-- Say what became of a claim; once.
UPDATE scheduler_beatsend SET state = %(state)s WHERE id = %(id)s AND state = 'claimed'

-- name: release
-- Give an occurrence back that was claimed and not sent.
DELETE FROM scheduler_schedulerun
WHERE schedule_id = %(schedule_id)s AND scheduled_for = %(scheduled_for)s AND origin = 'schedule' AND firer = 'beat'
  AND state = 'fired' AND span_end IS NULL

-- name: sign_of_life
-- The process as it is now: registered with the first one.
INSERT INTO scheduler_beatprocess
    (id, host, process_id, scheduler, mode, sends, refused_sends, failed_sends, lost_sends, stopped_at)
VALUES (
    %(id)s, %(host)s, %(process_id)s, %(scheduler)s, %(mode)s, %(sent)s, %(refused)s, %(failed)s, %(lost)s,
    CASE WHEN %(is_stopped)s THEN clock_timestamp() END
)
ON CONFLICT (id) DO UPDATE
SET heartbeat_at = clock_timestamp(), sends = excluded.sends, refused_sends = excluded.refused_sends,
    failed_sends = excluded.failed_sends, lost_sends = excluded.lost_sends, stopped_at = excluded.stopped_at

-- name: figures
-- For /metrics: living processes, and claims of processes that are gone.
WITH live AS (
    SELECT id FROM scheduler_beatprocess
    WHERE stopped_at IS NULL AND heartbeat_at > clock_timestamp() - make_interval(secs => %(alive_seconds)s)
)
SELECT (SELECT count(*) FROM live),
       (SELECT count(*) FROM scheduler_beatsend WHERE state = 'claimed' AND process_id NOT IN (SELECT id FROM live))

-- name: tallies
-- For /metrics: what each process has sent that was there within the last minutes.
SELECT host || ':' || process_id, sends, refused_sends, failed_sends, lost_sends
FROM scheduler_beatprocess
WHERE heartbeat_at > clock_timestamp() - interval '5 minutes'
ORDER BY heartbeat_at DESC
LIMIT 100

-- name: forget_sends
-- Forget one batch of old sends.
DELETE FROM scheduler_beatsend
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_beatsend
    WHERE recorded_at < clock_timestamp() - make_interval(days => %(days)s)
    ORDER BY recorded_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_processes
-- Forget one batch of processes that have been gone for so long.
DELETE FROM scheduler_beatprocess
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_beatprocess
    WHERE heartbeat_at < clock_timestamp() - make_interval(days => %(days)s)
    ORDER BY heartbeat_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
