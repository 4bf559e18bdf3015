-- name: pairs
-- Every schedule with its row in Beat, and one fingerprint of what both say. An instant is a number there: as a text it
-- would depend on the session's time zone.
SELECT ours.pipeline_id, ours.organization_id, ours.firer, ours.beat_name,
       beats.id::bigint AS beat_id,
       (coalesce(ours.hold, '') = 'handover' OR ours.beat_from IS NOT NULL) AS is_in_handover,
       ours, beats, crontab_row, interval_row, clocked_row, solar_row,
       md5(ROW(
           ours.firer, ours.beat_name, ours.pipeline_name, ours.kind, ours.cron_string,
           ours.timezone, ours.dialect, ours.task, ours.args, ours.kwargs, ours.queue,
           ours.priority, ours.enabled, extract(epoch FROM ours.starts_at),
           extract(epoch FROM ours.ends_at), ours.run_limit, ours.beat_from,
           beats.id, beats.task, beats.args, beats.kwargs, beats.queue, beats.priority, beats.enabled,
           extract(epoch FROM beats.start_time), extract(epoch FROM beats.expires), beats.expire_seconds, beats.one_off,
           beats.description, beats.exchange, beats.routing_key, beats.headers,
           crontab_row.minute, crontab_row.hour, crontab_row.day_of_month, crontab_row.month_of_year,
           crontab_row.day_of_week, crontab_row.timezone, interval_row.every, interval_row.period, extract(epoch FROM clocked_row.clocked_time),
           solar_row.event, solar_row.latitude, solar_row.longitude
       )::text) AS fingerprint
FROM scheduler_pgperiodicschedule AS ours
LEFT JOIN django_celery_beat_periodictask AS beats ON beats.name = ours.beat_name
LEFT JOIN django_celery_beat_crontabschedule AS crontab_row ON crontab_row.id = beats.crontab_id
LEFT JOIN django_celery_beat_intervalschedule AS interval_row ON interval_row.id = beats.interval_id
LEFT JOIN django_celery_beat_clockedschedule AS clocked_row ON clocked_row.id = beats.clocked_id
LEFT JOIN django_celery_beat_solarschedule AS solar_row ON solar_row.id = beats.solar_id

-- name: agree
-- Store the fingerprints of rows that were compared, but for those that have changed since. No fingerprint given (null):
-- as the rows are, which the caller holds. In one order: two processes may store the same ones.
INSERT INTO scheduler_beatlink AS link
    (schedule_id, beat_name, beat_id, source, organization_id, linked_at, checked_at, fingerprint, extras)
SELECT pair.pipeline_id, pair.beat_name, pair.beat_id, 'here', pair.organization_id, clock_timestamp(),
       clock_timestamp(), pair.fingerprint, agreed.extras
FROM ({pairs}) AS pair
JOIN unnest(%(ids)s::uuid[], %(fingerprints)s::text[], %(extras)s::jsonb[]) AS agreed (id, fingerprint, extras)
    ON agreed.id = pair.pipeline_id AND coalesce(agreed.fingerprint, pair.fingerprint) = pair.fingerprint
WHERE pair.pipeline_id = ANY (%(ids)s::uuid[])
ORDER BY pair.pipeline_id
ON CONFLICT (schedule_id) DO UPDATE
SET beat_name = excluded.beat_name, beat_id = excluded.beat_id, organization_id = excluded.organization_id,
    checked_at = excluded.checked_at, fingerprint = excluded.fingerprint, extras = excluded.extras

-- name: one_at_a_time
-- One process at a time looks for differences; the others leave it for their next round.
SELECT pg_try_advisory_xact_lock(hashtextextended('scheduler.reconciliation', 0))

-- name: suspects
-- The schedules to be compared: those that are not as they were last found to agree, those of which a difference or a
-- failed write is on a list, and those whose mirror is missing beside Beat's row. What is being handed over is left
-- alone. Those that could not be repaired come last, in no order, so that none waits behind the same others for ever.
WITH unmirrored AS MATERIALIZED (  -- first: mostly they are few, and only for them links are looked up
    SELECT beats.id, beats.name
    FROM django_celery_beat_periodictask AS beats
    WHERE NOT EXISTS (SELECT FROM scheduler_pgperiodicschedule WHERE beat_name = beats.name)
      AND NOT starts_with(beats.name, %(canary)s)
), lost AS MATERIALIZED (
    SELECT CASE
        WHEN name ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN name::uuid
        ELSE coalesce(
            (SELECT schedule_id FROM scheduler_beatlink WHERE beat_id = unmirrored.id
             ORDER BY linked_at DESC LIMIT 1),
            (SELECT schedule_id FROM scheduler_beatlink WHERE beat_name = unmirrored.name
             ORDER BY linked_at DESC LIMIT 1)
        )
    END AS schedule_id
    FROM unmirrored
    UNION  -- what is on the list, and gone here
    SELECT schedule_id FROM scheduler_mirrordrift WHERE repaired_at IS NULL
), suspect AS (
    SELECT pair.pipeline_id AS schedule_id, link.fingerprint IS NULL AS is_new
    FROM ({pairs}) AS pair
    LEFT JOIN scheduler_beatlink AS link ON link.schedule_id = pair.pipeline_id
    WHERE NOT pair.is_in_handover
      AND (
          link.fingerprint IS DISTINCT FROM pair.fingerprint
          OR pair.pipeline_id IN (SELECT schedule_id FROM scheduler_mirrordrift WHERE repaired_at IS NULL)
          OR pair.firer = 'beat'
             AND pair.pipeline_id IN (SELECT schedule_id FROM scheduler_mirrorfailure WHERE repaired_at IS NULL)
      )
    UNION ALL
    SELECT schedule_id, false
    FROM lost
    WHERE schedule_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = lost.schedule_id)
)
SELECT schedule_id
FROM suspect
WHERE %(ids)s::uuid[] IS NULL OR schedule_id = ANY (%(ids)s::uuid[])
ORDER BY schedule_id IN (SELECT schedule_id FROM scheduler_mirrordrift WHERE repaired_at IS NULL AND error <> ''),
         is_new,
         random()

-- name: compared
-- Both rows of each of these schedules, read by one statement with their fingerprint; where Beat's row is gone, the name
-- that it has now, or since when that is known, if it is so for as long as the grace.
SELECT pair.pipeline_id, pair.beat_name, pair.organization_id, pair.firer, pair.fingerprint,
       to_jsonb(pair.ours), to_jsonb(pair.beats), to_jsonb(pair.crontab_row), to_jsonb(pair.interval_row),
       to_jsonb(pair.clocked_row), to_jsonb(pair.solar_row),
       renamed.name, gone.found_at,
       EXISTS (
           SELECT FROM scheduler_mirrorfailure AS failure
           WHERE failure.schedule_id = pair.pipeline_id AND failure.repaired_at IS NULL
       )
FROM ({pairs}) AS pair
LEFT JOIN scheduler_beatlink AS link ON link.schedule_id = pair.pipeline_id
LEFT JOIN django_celery_beat_periodictask AS renamed
    ON pair.beat_id IS NULL AND renamed.id = link.beat_id
    AND NOT EXISTS (SELECT FROM scheduler_pgperiodicschedule AS other WHERE other.beat_name = renamed.name)
LEFT JOIN scheduler_mirrordrift AS gone
    ON gone.schedule_id = pair.pipeline_id AND gone.what = 'orphaned' AND gone.repaired_at IS NULL
    AND gone.found_at <= clock_timestamp() - make_interval(secs => %(grace_seconds)s)
WHERE pair.pipeline_id = ANY (%(ids)s::uuid[]) AND NOT pair.is_in_handover

-- name: forget_drift
-- Forget one batch of old differences that were repaired, or are gone.
DELETE FROM scheduler_mirrordrift
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_mirrordrift
    WHERE repaired_at < clock_timestamp() - make_interval(days => %(days)s)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_links
-- Forget one batch of links of what is gone on both sides. Who deleted it is noted for as long as runs are kept, and so
-- long a row that is made anew under the name gets its schedule back.
DELETE FROM scheduler_beatlink
WHERE schedule_id = ANY (ARRAY (
    SELECT schedule_id FROM scheduler_beatlink AS link
    WHERE checked_at < clock_timestamp() - make_interval(days => %(days)s)
      AND NOT EXISTS (SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = link.schedule_id)
      AND NOT EXISTS (SELECT FROM django_celery_beat_periodictask WHERE name = link.beat_name)
      AND NOT EXISTS (SELECT FROM django_celery_beat_periodictask WHERE id = link.beat_id)
      AND NOT EXISTS (SELECT FROM scheduler_schedulechange AS note WHERE note.schedule_id = link.schedule_id)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
