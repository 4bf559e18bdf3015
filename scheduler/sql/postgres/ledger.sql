-- name: figures
-- For /metrics: age of the oldest due schedule in seconds, schedules in quarantine, mirror failures not repaired, how
-- often the guard of Beat's rows has undone something (by the sequence: notes are forgotten, a counter never falls), and
-- differences between schedules and Beat's rows.
SELECT greatest(0, coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT next_run_at FROM scheduler_pgperiodicschedule
           WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND hold IS NULL AND isfinite(next_run_at)
           ORDER BY next_run_at LIMIT 1
       )), 0))::float8,
       (SELECT count(*) FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL),
       (SELECT count(*) FROM scheduler_mirrorfailure WHERE repaired_at IS NULL),
       coalesce(pg_sequence_last_value(pg_get_serial_sequence('scheduler_beatcatch', 'id')::regclass), 0),
       (SELECT count(*) FROM scheduler_mirrordrift WHERE repaired_at IS NULL)

-- name: write_back
-- Carry outcomes into the ledger. The bounds let the planner leave out the other months, and ids = ANY(…) makes it an
-- index scan whatever the planner thinks of the parameters' size. What is final stays as it is, but for a failure whose
-- dead letter was replayed: its later end replaces it.
UPDATE scheduler_schedulerun AS run
SET state = outcome.state, started_at = outcome.started_at, finished_at = outcome.finished_at,
    result = outcome.result, error = outcome.error
FROM unnest(
    %(ids)s::uuid[], %(scheduled_fors)s::timestamptz[], %(states)s::text[], %(started_ats)s::timestamptz[],
    %(finished_ats)s::timestamptz[], %(results)s::jsonb[], %(errors)s::jsonb[]
) AS outcome (id, scheduled_for, state, started_at, finished_at, result, error)
WHERE run.id = ANY (%(ids)s::uuid[])
  AND run.scheduled_for BETWEEN %(first)s AND %(last)s
  AND run.id = outcome.id AND run.scheduled_for = outcome.scheduled_for
  AND (run.state IN ('fired', 'running', 'relayed') OR (run.state = 'failed' AND run.finished_at < outcome.finished_at))
RETURNING run.schedule_id, run.origin, run.state, run.finished_at

-- name: note_relayed
-- Another system has taken these runs. Where their outcomes will not come, that is all that is ever known of them.
UPDATE scheduler_schedulerun AS run
SET relayed_at = coalesce(run.relayed_at, statement_timestamp()),
    state = CASE WHEN run.state = 'fired' AND NOT %(has_outcomes)s THEN 'relayed' ELSE run.state END
FROM unnest(%(ids)s::uuid[], %(scheduled_fors)s::timestamptz[]) AS taken (id, scheduled_for)
WHERE run.id = ANY (%(ids)s::uuid[])
  AND run.scheduled_for BETWEEN %(first)s AND %(last)s
  AND run.id = taken.id AND run.scheduled_for = taken.scheduled_for

-- name: hold_counted
-- Hold the schedules that count their failures, in one order: two write-backs may deal with the same ones.
SELECT pipeline_id FROM scheduler_pgperiodicschedule
WHERE pipeline_id = ANY (%(schedules)s::uuid[]) AND pause_after_failures IS NOT NULL
ORDER BY pipeline_id
FOR NO KEY UPDATE

-- name: count_failures
-- Failures in a row: those after the last success, and with those before where there is no success.
UPDATE scheduler_pgperiodicschedule AS schedule
SET failures_in_a_row = outcome.failures + CASE WHEN outcome.has_success THEN 0 ELSE schedule.failures_in_a_row END
FROM unnest(%(ids)s::uuid[], %(failures)s::integer[], %(has_successes)s::boolean[])
    AS outcome (id, failures, has_success)
WHERE schedule.pipeline_id = ANY (%(ids)s::uuid[]) AND schedule.pipeline_id = outcome.id

-- name: partitions
-- The ledger's monthly partitions and the bounds that they were made for.
SELECT child.relname, pg_get_expr(child.relpartbound, child.oid)
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = 'scheduler_schedulerun'::regclass

-- name: today
-- The database's date, in UTC.
SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date

-- name: wait_shortly
-- The tick goes first: whoever changes the set of partitions gives up, and tries again in the next round.
SET LOCAL lock_timeout = '2s'

-- name: lock_partitions
-- One process at a time changes the set of partitions; the others leave it for their next round.
SELECT pg_try_advisory_xact_lock(hashtextextended('scheduler.ledger.partitions', 0))

-- name: lock_ledger
-- What the attachment needs, before anything else: whoever has it (ANALYZE) may want the partitions next. Runs are
-- written meanwhile.
LOCK TABLE ONLY scheduler_schedulerun IN SHARE UPDATE EXCLUSIVE MODE

-- name: create_partition
-- A table like the ledger, not part of it yet. Room is left in each page for the run's outcome.
CREATE TABLE {name} (LIKE scheduler_schedulerun INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = 80)

-- name: lock_default
-- Nothing may fall into it between the move and the attachment.
LOCK TABLE scheduler_schedulerun_default IN ACCESS EXCLUSIVE MODE

-- name: move_from_default
-- What fell into the default partition because its month was missing.
WITH moved AS (
    DELETE FROM scheduler_schedulerun_default WHERE scheduled_for >= {first} AND scheduled_for < {end} RETURNING *
)
INSERT INTO {name} SELECT * FROM moved

-- name: attach_partition
-- Make it the ledger's month.
ALTER TABLE scheduler_schedulerun ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})

-- name: index_stretches
-- Finds the stretches of a month that is to be dropped, so that this needs no scan while the whole ledger is locked.
-- Holds up only writers of that month, which are rare: a stretch that began in it.
CREATE INDEX IF NOT EXISTS {index} ON {name} (span_end) WHERE span_end IS NOT NULL

-- name: detach_partition
-- From here on the default partition takes what belongs to the month.
ALTER TABLE scheduler_schedulerun DETACH PARTITION {name}

-- name: keep_stretches
-- A stretch is as old as its end.
INSERT INTO scheduler_schedulerun_default SELECT * FROM {name} WHERE span_end >= {oldest}

-- name: drop_partition
-- Forget a month.
DROP TABLE {name}

-- name: forget_default
-- Forget one batch of what lies outside the months. A stretch is as old as its end.
DELETE FROM scheduler_schedulerun_default
WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM scheduler_schedulerun_default
    WHERE coalesce(span_end, scheduled_for) < clock_timestamp() - make_interval(days => %(days)s)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_changes
-- Forget one batch of old notes of changes.
DELETE FROM scheduler_schedulechange
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_schedulechange
    WHERE changed_at < clock_timestamp() - make_interval(days => %(days)s)
    ORDER BY changed_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_mirror_failures
-- Forget one batch of old mirror failures.
DELETE FROM scheduler_mirrorfailure
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_mirrorfailure
    WHERE failed_at < clock_timestamp() - make_interval(days => %(days)s)
    ORDER BY failed_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_catches
-- Forget one batch of old notes of what the guard of Beat's rows undid.
DELETE FROM scheduler_beatcatch
WHERE id = ANY (ARRAY (
    SELECT id FROM scheduler_beatcatch
    WHERE caught_at < clock_timestamp() - make_interval(days => %(days)s)
    ORDER BY caught_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
