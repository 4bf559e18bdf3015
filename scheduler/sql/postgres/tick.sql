-- name: configure
-- Plan by the indexes made for each statement: the tables' statistics always lag behind a tick, and PostgreSQL has none
-- for a CTE. Everything that a tick reads was just written, so pages are cheap.
SELECT set_config('enable_seqscan', 'off', false),
       set_config('random_page_cost', '0.1', false),
       set_config('work_mem', '64MB', false),
       set_config('jit', 'off', false)

-- name: clock
-- The instant that decides what is due in this pass.
SELECT clock_timestamp()

-- name: check_deferred
-- What a constraint would say only at the commit.
SET CONSTRAINTS ALL IMMEDIATE

-- name: plan
-- A large batch is planned for its own parameters (how many rows, how many verdicts); planning the statements costs
-- more than firing a handful of rows does, so a small one uses the plan made before.
SELECT set_config('plan_cache_mode', %(mode)s, false)

-- name: survey
-- The distinct crontab cadences among the next due rows, without a lock: what Python has to evaluate, before the batch's
-- transaction.
SELECT DISTINCT cron_string, timezone, dialect, next_run_at, base
FROM (
    SELECT kind, cron_string, timezone, dialect, next_run_at,
           least(%(at)s, ends_at - interval '1 microsecond') AS base, ends_at
    FROM scheduler_pgperiodicschedule
    WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL
      AND next_run_at <= %(at)s
      AND (next_run_at, pipeline_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
    ORDER BY next_run_at, pipeline_id
    LIMIT %(limit)s
) AS due
WHERE kind = 'crontab' AND next_run_at >= %(earliest)s AND (ends_at IS NULL OR ends_at > next_run_at)

-- name: fire
-- One batch: lock due rows, oldest first, and decide, advance, record and enqueue them, as one statement.
-- A row whose cadence was edited since the survey finds no verdict and is left for the next pass. What is inserted comes
-- from the rows that the UPDATE returned, so nothing is fired that was not advanced. Rows are joined by ctid: they are
-- locked, so it cannot move.
WITH due AS MATERIALIZED (
    SELECT ctid AS place, pipeline_id, organization_id, kind, cron_string, timezone, dialect, task, args, kwargs, queue,
           priority, max_attempts, ends_at, next_run_at AS due_at,
           least(%(at)s, ends_at - interval '1 microsecond') AS base,
           ends_at IS NOT NULL AND ends_at <= next_run_at AS is_over,
           make_interval(secs => coalesce(grace_seconds, %(grace_seconds)s)) AS grace,
           interval_seconds,
           CASE WHEN kind = 'interval' AND next_run_at >= %(earliest)s
                     AND interval_seconds BETWEEN %(shortest_seconds)s AND %(longest_seconds)s
                THEN (date_part('epoch', least(%(at)s, ends_at - interval '1 microsecond') - next_run_at) * 1e6)::bigint
                     / (interval_seconds * 1e6)::bigint
           END AS steps
    FROM scheduler_pgperiodicschedule
    WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL
      AND next_run_at <= %(at)s
      AND (next_run_at, pipeline_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
    ORDER BY next_run_at, pipeline_id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
verdict AS (
    SELECT *
    FROM unnest(
        %(cron_strings)s::text[], %(timezones)s::text[], %(dialects)s::text[], %(due_ats)s::timestamptz[],
        %(bases)s::timestamptz[], %(latests)s::timestamptz[], %(befores)s::timestamptz[], %(nexts)s::timestamptz[],
        %(misseds)s::bigint[], %(errors)s::text[]
    ) AS v (cron_string, timezone, dialect, due_at, base, latest, before, next, missed, error)
),
judged AS (
    SELECT due.place, due.pipeline_id, due.organization_id, due.task, due.args, due.kwargs, due.queue, due.priority,
           due.max_attempts, due.ends_at, due.due_at, due.is_over, due.grace,
           row_number() OVER (ORDER BY due.due_at, due.pipeline_id) AS number,
           CASE WHEN kind = 'crontab' THEN verdict.latest
                ELSE due.due_at + make_interval(secs => steps * interval_seconds) END AS latest,
           CASE WHEN kind = 'crontab' THEN verdict.before
                WHEN steps > 0 THEN due.due_at + make_interval(secs => (steps - 1) * interval_seconds) END AS before,
           CASE WHEN kind = 'crontab' THEN verdict.next
                ELSE due.due_at + make_interval(secs => (steps + 1) * interval_seconds) END AS next,
           CASE WHEN kind = 'crontab' THEN verdict.missed ELSE steps END AS missed,
           CASE WHEN due.is_over THEN NULL
                WHEN due.due_at < %(earliest)s
                THEN format('next_run_at: expected an instant after %%s, got: %%s', %(earliest)s, due.due_at)
                WHEN kind = 'interval' AND steps IS NULL
                THEN format('interval_seconds: expected from %%s to %%s, got: %%s',
                            %(shortest_seconds)s, %(longest_seconds)s, interval_seconds)
                ELSE verdict.error END AS error
    FROM due
    LEFT JOIN verdict
        ON due.kind = 'crontab' AND due.cron_string = verdict.cron_string AND due.timezone = verdict.timezone
       AND due.dialect = verdict.dialect AND due.due_at = verdict.due_at AND due.base = verdict.base
    WHERE kind = 'interval' OR verdict.cron_string IS NOT NULL OR due.is_over OR due.due_at < %(earliest)s
),
decided AS MATERIALIZED (
    SELECT judged.*,
           error IS NULL AND NOT is_over AS is_alive,
           error IS NULL AND NOT is_over AND latest >= %(at)s - grace AS is_in_grace,
           error IS NULL AND NOT is_over AND latest >= %(at)s - grace AND NOT {is_taken} AS is_fired,
           (%(id_prefix)s || lpad(to_hex(number), 8, '0'))::uuid AS id
    FROM judged
),
advanced AS (
    UPDATE scheduler_pgperiodicschedule AS schedule
    SET next_run_at = CASE
            WHEN error IS NOT NULL THEN schedule.next_run_at
            WHEN NOT is_over AND (decided.ends_at IS NULL OR next < decided.ends_at) THEN next
        END,
        last_run_at = CASE WHEN is_fired THEN latest ELSE schedule.last_run_at END,
        quarantined_at = CASE WHEN error IS NOT NULL THEN statement_timestamp() END,
        quarantine_error = coalesce(error, '')
    FROM decided
    WHERE schedule.ctid = decided.place
    RETURNING decided.*
),
run AS (
    INSERT INTO scheduler_schedulerun
        (id, schedule_id, organization_id, scheduled_for, firer, state, term, fired_at)
    SELECT id, pipeline_id, organization_id, latest, 'pg', 'fired', %(term)s, statement_timestamp()
    FROM advanced
    WHERE is_fired
),
stretch AS (
    INSERT INTO scheduler_schedulerun
        (id, schedule_id, organization_id, scheduled_for, span_end, occurrences, firer, state, term)
    SELECT (%(stretch_id_prefix)s || lpad(to_hex(number), 8, '0'))::uuid, pipeline_id, organization_id, due_at,
           CASE WHEN is_in_grace THEN nullif(before, due_at) ELSE nullif(latest, due_at) END,
           CASE WHEN is_in_grace THEN missed ELSE missed + 1 END,
           'pg',
           CASE WHEN is_in_grace THEN 'coalesced'
                WHEN due_at >= %(led_until)s::timestamptz AND latest <= %(leads_since)s THEN 'no_leader'
                ELSE 'expired' END,
           %(term)s
    FROM advanced
    WHERE is_alive AND (before IS NOT NULL OR NOT is_in_grace)
    ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING
),
firing AS (
    SELECT id, queue, priority, task, args, kwargs, organization_id, max_attempts, %(report_to)s AS report_to,
           jsonb_build_object('schedule_id', pipeline_id, 'scheduled_for', latest) AS headers
    FROM advanced
    WHERE is_fired
),
message AS (
    {enqueue}
)
SELECT last.due_at::text AS last_at,
       last.pipeline_id::text AS last_id,
       (SELECT count(*) FROM due) AS seen,
       outcome.*
FROM (
    SELECT count(*) AS advanced,
           count(*) FILTER (WHERE is_fired) AS fired,
           count(*) FILTER (WHERE is_in_grace AND before IS NOT NULL) AS coalesced,
           count(*) FILTER (WHERE is_alive AND NOT is_in_grace) AS expired,
           count(*) FILTER (WHERE is_in_grace AND NOT is_fired) AS taken,
           array_agg(DISTINCT queue) FILTER (WHERE is_fired) AS queues,
           jsonb_object_agg(pipeline_id, error) FILTER (WHERE error IS NOT NULL) AS quarantined
    FROM advanced
) AS outcome
LEFT JOIN LATERAL (
    SELECT due_at, pipeline_id FROM due ORDER BY due_at DESC, pipeline_id DESC LIMIT 1
) AS last ON true

-- name: is_taken
-- Whether another leader, or an earlier one, has recorded this occurrence.
EXISTS (
    SELECT FROM scheduler_schedulerun AS other
    WHERE other.schedule_id = judged.pipeline_id AND other.scheduled_for = judged.latest AND other.origin = 'schedule'
)

-- name: lock_first
-- The first row of a batch, held until the end of the transaction.
SELECT pipeline_id
FROM scheduler_pgperiodicschedule
WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL
  AND next_run_at <= %(at)s
  AND (next_run_at, pipeline_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
ORDER BY next_run_at, pipeline_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED

-- name: quarantine
-- Set a row aside that made its batch fail.
UPDATE scheduler_pgperiodicschedule
SET quarantined_at = statement_timestamp(), quarantine_error = %(error)s
WHERE pipeline_id = %(pipeline_id)s
RETURNING next_run_at::text AS last_at, pipeline_id::text AS last_id

-- name: next_due
-- Seconds until there is something to do, by the database's clock; null: nothing is planned.
SELECT extract(epoch FROM (
    SELECT next_run_at
    FROM scheduler_pgperiodicschedule
    WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND next_run_at IS NOT NULL
    ORDER BY next_run_at, pipeline_id
    LIMIT 1
) - clock_timestamp())::float8
