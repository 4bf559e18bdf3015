-- name: arrived
-- The hand-overs to PG of which it is known what Beat has sent: it has sent the canary, and so has every other Beat that
-- may have loaded what was before (one tells of itself some moments after it has loaded); or no claim of a living Beat is
-- open. And those whose schedule is gone. The oldest first.
SELECT handover.id
FROM scheduler_handover AS handover
WHERE handover.state = 'waiting' AND handover.to_firer = 'pg'
  AND (%(id)s::bigint IS NULL OR handover.id = %(id)s)
  AND (handover.method = 'stopped'
       OR NOT EXISTS (SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = handover.schedule_id)
       OR handover.method = 'canary'
          AND EXISTS (SELECT FROM scheduler_beatsend WHERE beat_name = handover.canary)
          AND NOT EXISTS (
              SELECT FROM scheduler_beatprocess AS process
              WHERE process.mode = 'observe'
                AND process.started_at < handover.requested_at + interval '10 seconds'
                AND process.stopped_at IS NULL
                AND process.heartbeat_at > clock_timestamp() - make_interval(secs => %(alive_seconds)s)
                AND NOT EXISTS (
                    SELECT FROM scheduler_beatsend
                    WHERE beat_name = handover.canary AND process_id = process.id
                )
          )
       OR handover.method = 'claim'
          AND NOT EXISTS (
              SELECT FROM scheduler_beatsend AS claim
              JOIN scheduler_beatprocess AS process ON process.id = claim.process_id
              WHERE claim.schedule_id = handover.schedule_id AND claim.state = 'claimed'
                AND process.stopped_at IS NULL
                AND process.heartbeat_at > clock_timestamp() - make_interval(secs => %(alive_seconds)s)
          ))
ORDER BY handover.id
LIMIT %(limit)s

-- name: unsent_canaries
-- The canaries that nobody has sent for a while, or not every Beat that has to, each once for all processes that reap.
SELECT canary
FROM (
    SELECT canary, max(requested_at) AS requested_at FROM scheduler_handover
    WHERE state = 'waiting' AND canary <> ''
      AND requested_at < clock_timestamp() - make_interval(secs => %(patience_seconds)s)
    GROUP BY canary
) AS waiting
WHERE (NOT EXISTS (SELECT FROM scheduler_beatsend WHERE beat_name = canary)
       OR EXISTS (
           SELECT FROM scheduler_beatprocess AS process
           WHERE process.mode = 'observe' AND process.started_at < waiting.requested_at + interval '10 seconds'
             AND process.stopped_at IS NULL
             AND process.heartbeat_at > clock_timestamp() - make_interval(secs => %(alive_seconds)s)
             AND NOT EXISTS (
                 SELECT FROM scheduler_beatsend WHERE beat_name = canary AND process_id = process.id
             )
       ))
  AND pg_try_advisory_xact_lock(hashtextextended(canary, 20261124))
ORDER BY canary

-- name: returned
-- The hand-overs to Beat whose instant has passed, and of which PG has decided everything up to it. The oldest first.
SELECT handover.id
FROM scheduler_handover AS handover
LEFT JOIN scheduler_pgperiodicschedule AS schedule ON schedule.pipeline_id = handover.schedule_id
WHERE handover.state = 'waiting' AND handover.to_firer = 'beat' AND handover.beat_from < clock_timestamp()
  AND (schedule.pipeline_id IS NULL OR schedule.hold = 'handover' OR schedule.next_run_at IS NULL
       OR schedule.next_run_at > schedule.beat_from OR NOT schedule.enabled OR schedule.quarantined_at IS NOT NULL)
ORDER BY handover.id
LIMIT %(limit)s

-- name: last_send
-- The latest occurrence that Beat has sent, as far as is recorded; of several sends of it the last, from which Beat counts.
SELECT scheduled_for, sent_at
FROM scheduler_beatsend
WHERE schedule_id = %(schedule_id)s AND scheduled_for IS NOT NULL AND state IN ('sent', 'claimed')
ORDER BY scheduled_for DESC, sent_at DESC
LIMIT 1

-- name: sends_since
-- How many occurrences Beat has sent first, recorded since an instant at which the mirror stopped to follow. A claim counts
-- where nobody will settle it; else the mirror counts it then.
SELECT count(*)
FROM scheduler_beatsend
WHERE beat_name = %(beat_name)s AND recorded_at >= %(since)s AND is_first
  AND (state = 'sent' OR state = 'claimed' AND %(with_claims)s)

-- name: changed_at
-- When somebody last changed when it occurs, or switched it on or off.
SELECT max(changed_at)
FROM scheduler_schedulechange
WHERE schedule_id = %(schedule_id)s
  AND fields ?| ARRAY['enabled', 'kind', 'expression', 'timezone', 'dialect', 'starts_at']

-- name: counted
-- How many sends of Beat are recorded since the last run that its row tells of (which is noted just before its send);
-- whether the schedule was changed about then, which writes that, too; and when Beat had loaded the hand-over.
SELECT (SELECT count(*) FROM scheduler_beatsend
        WHERE schedule_id = %(schedule_id)s AND beat_name = %(beat_name)s AND state <> 'refused'
          AND recorded_at > %(last_run_at)s::timestamptz
          AND sent_at > %(last_run_at)s::timestamptz + interval '0.5 seconds'),
       EXISTS (SELECT FROM scheduler_schedulechange
               WHERE schedule_id = %(schedule_id)s
                 AND changed_at > %(last_run_at)s::timestamptz - interval '15 seconds'
                 AND action <> 'promote'),
       (SELECT max(sent_at) FROM scheduler_beatsend WHERE beat_name = %(canary)s)

-- name: in_force_since
-- When somebody last changed when it occurs, or switched it on or off; or until when PG fired it, if that was later. What is
-- paused since before then has not been decided: resuming it will account for it.
SELECT greatest(
    (SELECT max(changed_at)
     FROM scheduler_schedulechange
     WHERE schedule_id = %(schedule_id)s
       AND (action IN ('create', 'import')
            OR fields ?| ARRAY['enabled', 'kind', 'expression', 'timezone', 'dialect', 'starts_at'])),
    (SELECT max(beat_from)
     FROM scheduler_handover
     WHERE schedule_id = %(schedule_id)s AND to_firer = 'beat' AND state = 'done' AND %(is_enabled)s)
)

-- name: last_evidence
-- Of a process that was killed: from when on what it sent may not be recorded, and until when it may have lived. Null: it
-- lives, ended in good order, or is not known.
SELECT greatest(heartbeat_at, (
           SELECT max(recorded_at) FROM scheduler_beatsend
           WHERE process_id = process.id AND recorded_at > process.heartbeat_at
       )) - make_interval(secs => %(unrecorded_seconds)s),
       heartbeat_at + make_interval(secs => %(alive_seconds)s)
FROM scheduler_beatprocess AS process
WHERE id = %(process)s AND stopped_at IS NULL
  AND heartbeat_at < clock_timestamp() - make_interval(secs => %(alive_seconds)s)

-- name: last_killed
-- The process that was heard of last, where none lives and it did not end in good order.
SELECT id FROM scheduler_beatprocess
WHERE stopped_at IS NULL
  AND NOT EXISTS (
      SELECT FROM scheduler_beatprocess AS later
      WHERE later.started_at > scheduler_beatprocess.started_at
  )

-- name: take_unknown
-- Occurrences that Beat may have sent are taken, and listed for a person.
WITH taken AS (
    INSERT INTO scheduler_schedulerun
        (id, schedule_id, organization_id, scheduled_for, origin, firer, state, fired_at)
    SELECT gen_random_uuid(), %(schedule_id)s, %(organization_id)s, occurrence, 'schedule', 'beat', 'fired', occurrence
    FROM unnest(%(occurrences)s::timestamptz[]) AS occurrence
    ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING
    RETURNING scheduled_for
)
INSERT INTO scheduler_beatsend
    (process_id, beat_name, schedule_id, message_id, scheduled_for, sent_at, is_first, state)
SELECT %(process)s, %(beat_name)s, %(schedule_id)s, '', scheduled_for, scheduled_for, true, 'claimed'
FROM taken
ORDER BY scheduled_for
RETURNING scheduled_for

-- name: misbehaving
-- Schedules that were handed over to PG a short while ago and do badly since: set aside by the tick, every run of theirs
-- has failed so far, or Beat goes on sending them. Those being handed back are left out.
SELECT handover.schedule_id,
       CASE WHEN schedule.quarantined_at IS NOT NULL THEN 'quarantined'
            WHEN outcome.failed >= %(failures)s AND outcome.succeeded = 0 THEN 'failing'
            ELSE 'sent' END,
       coalesce(outcome.failed, 0)
FROM (
    SELECT DISTINCT ON (schedule_id) * FROM scheduler_handover
    WHERE ended_at > clock_timestamp() - make_interval(hours => %(hours)s)
    ORDER BY schedule_id, ended_at DESC
) AS handover
JOIN scheduler_pgperiodicschedule AS schedule ON schedule.pipeline_id = handover.schedule_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'failed') AS failed, count(*) FILTER (WHERE state = 'succeeded') AS succeeded
    FROM (
        SELECT state FROM scheduler_schedulerun AS run
        WHERE run.schedule_id = handover.schedule_id AND run.scheduled_for >= handover.requested_at
          AND run.origin = 'schedule' AND run.firer = 'pg' AND run.state IN ('failed', 'succeeded')
        ORDER BY run.scheduled_for
        LIMIT 100
    ) AS run
) AS outcome
WHERE handover.state = 'done' AND handover.to_firer = 'pg'
  AND schedule.firer = 'pg' AND schedule.beat_from IS NULL AND schedule.hold IS DISTINCT FROM 'handover'
  AND (schedule.quarantined_at > handover.requested_at
       OR outcome.failed >= %(failures)s AND outcome.succeeded = 0
       OR EXISTS (
           SELECT FROM scheduler_beatsend AS send
           WHERE send.beat_name = handover.beat_name AND send.recorded_at > handover.ended_at
             AND send.sent_at > handover.ended_at AND send.state = 'sent'
       ))
LIMIT %(limit)s

-- name: forget
-- Forget one batch of old hand-overs; the last of each schedule that is there stays.
DELETE FROM scheduler_handover
WHERE id = ANY (ARRAY (
    SELECT handover.id FROM scheduler_handover AS handover
    WHERE handover.ended_at < clock_timestamp() - make_interval(days => %(days)s)
      AND (NOT EXISTS (
               SELECT FROM scheduler_pgperiodicschedule AS schedule WHERE schedule.pipeline_id = handover.schedule_id
           )
           OR EXISTS (
               SELECT FROM scheduler_handover AS later
               WHERE later.schedule_id = handover.schedule_id AND later.requested_at > handover.requested_at
           ))
    ORDER BY handover.ended_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: figures
-- For /metrics: by firer, how many schedules there are, and how many hand-overs to it wait.
SELECT firer,
       (SELECT count(*) FROM scheduler_pgperiodicschedule AS schedule WHERE schedule.firer = known.firer),
       (SELECT count(*) FROM scheduler_handover WHERE state = 'waiting' AND to_firer = known.firer)
FROM (VALUES ('beat'), ('pg')) AS known (firer)
