-- name: pairs
-- Every schedule with its row in Beat, and one fingerprint of what both say. An instant is a number there: as a text it
-- would depend on the session's time zone.
SELECT ours.pipeline_id, ours.organization_id, ours.firer, ours.beat_name,
       beats.id::bigint AS beat_id,
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
-- as the rows are, which the caller holds.
INSERT INTO scheduler_beatlink AS link
    (schedule_id, beat_name, beat_id, source, organization_id, linked_at, checked_at, fingerprint, extras)
SELECT pair.pipeline_id, pair.beat_name, pair.beat_id, 'here', pair.organization_id, clock_timestamp(),
       clock_timestamp(), pair.fingerprint, agreed.extras
FROM ({pairs}) AS pair
JOIN unnest(%(ids)s::uuid[], %(fingerprints)s::text[], %(extras)s::jsonb[]) AS agreed (id, fingerprint, extras)
    ON agreed.id = pair.pipeline_id AND coalesce(agreed.fingerprint, pair.fingerprint) = pair.fingerprint
WHERE pair.pipeline_id = ANY (%(ids)s::uuid[])
ON CONFLICT (schedule_id) DO UPDATE
SET beat_name = excluded.beat_name, beat_id = excluded.beat_id, organization_id = excluded.organization_id,
    checked_at = excluded.checked_at, fingerprint = excluded.fingerprint, extras = excluded.extras
