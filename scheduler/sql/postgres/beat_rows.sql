-- name: announce_change
-- Makes every Beat reload. Always later than the last stamp, whoever's clock wrote that one: Beat compares with `>`.
INSERT INTO django_celery_beat_periodictasks AS track (ident, last_update)
VALUES (1, clock_timestamp())
ON CONFLICT (ident) DO UPDATE
SET last_update = greatest(clock_timestamp(), track.last_update + interval '1 microsecond')

-- name: keep_stamp
-- Put back a stamp that dcb has written over with an earlier one.
UPDATE django_celery_beat_periodictasks SET last_update = greatest(last_update, %(stamp)s::timestamptz) WHERE ident = 1

-- name: lock_cadence
-- One at a time for writers of one and the same crontab or interval row, until the transaction ends: these tables have
-- no unique constraint, so two writers would both insert.
SELECT pg_advisory_xact_lock(hashtextextended(%(cadence)s, 20261122))
