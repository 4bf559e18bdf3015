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
-- What Python has to evaluate among the next due rows, each distinct question once, without a lock and before the
-- batch's transaction. `since`: where every missed occurrence is made up for, the start of its catch-up window.
SELECT DISTINCT kind, cron_string, timezone, dialect, next_run_at, base, since
FROM (
    SELECT kind, cron_string, timezone, dialect, next_run_at,
           least(%(at)s, ends_at - interval '1 microsecond', beat_from) AS base, ends_at, beat_from,
           CASE WHEN next_run_at <= make_up_until
                THEN greatest(next_run_at, %(at)s - make_interval(
                    secs => greatest(coalesce(grace_seconds, %(grace_seconds)s), %(on_time_seconds)s)))
                WHEN catch_up = 'all'
                THEN greatest(next_run_at, %(at)s - make_interval(secs => coalesce(grace_seconds, %(grace_seconds)s)))
           END AS since
    FROM scheduler_pgperiodicschedule
    WHERE enabled AND firer = {firer} AND quarantined_at IS NULL AND hold IS NULL
      AND next_run_at <= %(at)s
      AND (next_run_at, pipeline_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
    ORDER BY next_run_at, pipeline_id
    LIMIT %(limit)s
) AS due
WHERE kind <> 'interval' AND next_run_at >= %(earliest)s AND (ends_at IS NULL OR ends_at > next_run_at)
  AND (beat_from IS NULL OR beat_from >= next_run_at)

-- name: fire
-- One batch: lock due rows, oldest first, and decide, advance, record and enqueue them, as one statement.
-- A row whose cadence was edited since the survey finds no verdict and is left for the next pass. What is inserted comes
-- from the rows that the UPDATE returned, so nothing is fired that was not advanced. Rows are joined by ctid: they are
-- locked, so it cannot move.
-- In shadow it decides on the schedules that Beat fires, by the very same rules, and records what it would have fired.
-- Of a schedule that was handed over, whatever lies before `make_up_until` is fired, each occurrence, be it as late as an
-- occurrence that is on time may be. One that is handed back is held as soon as its next occurrence lies beyond
-- `beat_from`: that one is Beat's.
WITH due AS MATERIALIZED (
    SELECT ctid AS place, pipeline_id, organization_id, kind, cron_string, timezone, dialect, task, args, kwargs, queue,
           priority, max_attempts, ends_at, beat_from, next_run_at AS due_at, overlap, jitter_seconds, last_run_id,
           CASE WHEN next_run_at <= make_up_until THEN 'all' ELSE catch_up END AS catch_up,
           run_limit <= run_count + 1 AS is_last,
           least(%(at)s, ends_at - interval '1 microsecond', beat_from) AS base,
           ends_at IS NOT NULL AND ends_at <= next_run_at AS is_over,
           beat_from IS NOT NULL AND beat_from < next_run_at AS is_beats,
           %(at)s - make_interval(secs => CASE
               WHEN next_run_at <= make_up_until
               THEN greatest(coalesce(grace_seconds, %(grace_seconds)s), %(on_time_seconds)s)
               ELSE coalesce(grace_seconds, %(grace_seconds)s) END) AS window_start,
           interval_seconds,
           CASE WHEN kind = 'interval' AND next_run_at >= %(earliest)s
                     AND interval_seconds BETWEEN %(shortest_seconds)s AND %(longest_seconds)s
                THEN (date_part('epoch', least(%(at)s, ends_at - interval '1 microsecond', beat_from) - next_run_at)
                      * 1e6)::bigint / (interval_seconds * 1e6)::bigint
           END AS steps
    FROM scheduler_pgperiodicschedule
    WHERE enabled AND firer = {firer} AND quarantined_at IS NULL AND hold IS NULL
      AND next_run_at <= %(at)s
      AND (next_run_at, pipeline_id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
    ORDER BY next_run_at, pipeline_id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
-- Where every missed occurrence is made up for, an interval goes on with the first one in its window.
stepped AS (
    SELECT due.*,
           CASE WHEN catch_up = 'all' AND steps > 0
                THEN least(steps, greatest(0, ceil(
                    (date_part('epoch', window_start - due_at) * 1e6)::bigint / (interval_seconds * 1e6)
                )))::bigint
                ELSE steps END AS step,
           CASE catch_up
                WHEN 'none' THEN greatest(window_start, %(at)s - make_interval(secs => %(on_time_seconds)s))
                ELSE window_start END AS earliest_fired,
           CASE WHEN catch_up = 'all' THEN greatest(due_at, window_start) END AS since
    FROM due
),
verdict AS (
    SELECT *
    FROM unnest(
        %(kinds)s::text[], %(cron_strings)s::text[], %(timezones)s::text[], %(dialects)s::text[],
        %(due_ats)s::timestamptz[], %(bases)s::timestamptz[], %(sinces)s::timestamptz[], %(latests)s::timestamptz[],
        %(befores)s::timestamptz[], %(nexts)s::timestamptz[], %(misseds)s::bigint[], %(errors)s::text[]
    ) AS v (kind, cron_string, timezone, dialect, due_at, base, since, latest, before, next, missed, error)
),
judged AS (
    SELECT stepped.place, stepped.pipeline_id, stepped.organization_id, stepped.task, stepped.args, stepped.kwargs,
           stepped.queue, stepped.priority, stepped.max_attempts, stepped.ends_at, stepped.beat_from, stepped.due_at,
           stepped.is_over, stepped.is_beats, stepped.earliest_fired, stepped.catch_up, stepped.overlap,
           stepped.is_last,
           row_number() OVER (ORDER BY stepped.due_at, stepped.pipeline_id) AS number,
           CASE WHEN stepped.kind = 'interval' THEN stepped.due_at + make_interval(secs => step * interval_seconds)
                ELSE verdict.latest END AS latest,
           CASE WHEN stepped.kind <> 'interval' THEN verdict.before
                WHEN step > 0 THEN stepped.due_at + make_interval(secs => (step - 1) * interval_seconds) END AS before,
           CASE WHEN stepped.kind = 'interval' THEN stepped.due_at + make_interval(secs => (step + 1) * interval_seconds)
                ELSE verdict.next END AS next,
           CASE WHEN stepped.kind = 'interval' THEN step ELSE verdict.missed END AS missed,
           CASE WHEN jitter_seconds > 0 THEN make_interval(secs => (
               ('x' || left(md5(pipeline_id::text), 8))::bit(32)::bigint * jitter_seconds * 1000 >> 32
           ) / 1000.0::float8) END AS jitter,
           CASE WHEN stepped.overlap <> 'allow' AND last_run_id IS NOT NULL THEN {is_unsettled} ELSE false END
               AS is_blocked,
           CASE WHEN stepped.is_over OR stepped.is_beats THEN NULL
                WHEN stepped.due_at < %(earliest)s
                THEN format('next_run_at: expected an instant after %%s, got: %%s', %(earliest)s, stepped.due_at)
                WHEN stepped.kind = 'interval' AND steps IS NULL
                THEN format('interval_seconds: expected from %%s to %%s, got: %%s',
                            %(shortest_seconds)s, %(longest_seconds)s, interval_seconds)
                ELSE verdict.error END AS error
    FROM stepped
    LEFT JOIN verdict
        ON stepped.kind <> 'interval' AND stepped.kind = verdict.kind AND stepped.cron_string = verdict.cron_string
       AND stepped.timezone = verdict.timezone AND stepped.dialect = verdict.dialect
       AND stepped.due_at = verdict.due_at AND stepped.base = verdict.base
       AND coalesce(stepped.since, '-infinity') = coalesce(verdict.since, '-infinity')
    WHERE stepped.kind = 'interval' OR verdict.cron_string IS NOT NULL OR stepped.is_over OR stepped.is_beats
       OR stepped.due_at < %(earliest)s
),
placed AS (
    SELECT judged.*,
           error IS NULL AND NOT is_over AND NOT is_beats AS is_alive,
           error IS NULL AND NOT is_over AND NOT is_beats AND latest >= earliest_fired AS is_in_grace
    FROM judged
),
decided AS MATERIALIZED (
    SELECT placed.*,
           is_in_grace AND is_blocked AND overlap = 'queue' AS is_held,
           is_in_grace AND is_blocked AND overlap = 'skip' AS is_skipped,
           is_in_grace AND NOT is_blocked AND NOT {is_taken} AS is_fired,
           (%(id_prefix)s || lpad(to_hex(number), 8, '0'))::uuid AS id
    FROM placed
),
advanced AS (
    UPDATE scheduler_pgperiodicschedule AS schedule
    SET next_run_at = CASE
            WHEN error IS NOT NULL OR is_held OR is_beats AND NOT is_over THEN schedule.next_run_at
            WHEN is_fired AND is_last THEN NULL
            WHEN NOT is_over AND (decided.ends_at IS NULL OR next < decided.ends_at) THEN next
        END,
        last_run_at = CASE WHEN is_fired AND NOT {is_shadow} THEN latest ELSE schedule.last_run_at END,
        last_run_id = CASE WHEN is_fired AND NOT {is_shadow} THEN decided.id ELSE schedule.last_run_id END,
        run_count = CASE WHEN is_fired AND NOT {is_shadow} THEN schedule.run_count + 1 ELSE schedule.run_count END,
        hold = CASE WHEN is_held THEN 'overlap'
                    WHEN is_beats OR error IS NULL AND next > decided.beat_from THEN 'handover' END,
        quarantined_at = CASE WHEN error IS NOT NULL THEN statement_timestamp() END,
        quarantine_error = coalesce(error, '')
    FROM decided
    WHERE schedule.ctid = decided.place
    RETURNING decided.*
),
run AS (
    INSERT INTO scheduler_schedulerun
        (id, schedule_id, organization_id, scheduled_for, origin, firer, state, term, fired_at)
    SELECT id, pipeline_id, organization_id, latest, {origin}, 'pg', 'fired', %(term)s, statement_timestamp()
    FROM advanced
    WHERE is_fired
    {on_conflict}
),
-- What lies before the occurrence that is fired, and what is not fired at all. Of a run that was missed, the reason is
-- the catch-up policy's; of one that was due and could not be fired, the window's or the overlap policy's.
stretch AS (
    INSERT INTO scheduler_schedulerun
        (id, schedule_id, organization_id, scheduled_for, origin, span_end, occurrences, firer, state, term)
    SELECT (%(stretch_id_prefix)s || lpad(to_hex(number), 8, '0'))::uuid, pipeline_id, organization_id, due_at,
           {origin}, nullif(last, due_at),
           CASE WHEN is_before_fired THEN missed ELSE missed + 1 END,
           'pg',
           CASE WHEN is_skipped THEN 'skipped'
                WHEN is_before_fired AND catch_up = 'latest' THEN 'coalesced'
                WHEN due_at >= %(led_until)s::timestamptz AND last <= %(leads_since)s THEN 'no_leader'
                ELSE 'expired' END,
           %(term)s
    FROM (
        SELECT advanced.*, is_in_grace AND NOT is_skipped AS is_before_fired,
               CASE WHEN is_in_grace AND NOT is_skipped THEN before ELSE latest END AS last
        FROM advanced
        WHERE is_alive AND NOT is_held
    ) AS passed
    WHERE last IS NOT NULL
    ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING
),
firing AS (
    SELECT id, queue, priority, task, args, kwargs, organization_id, max_attempts, %(report_to)s AS report_to,
           latest + jitter AS run_after,
           jsonb_build_object('schedule_id', pipeline_id, 'scheduled_for', latest) AS headers
    FROM advanced
    WHERE is_fired
),
message AS (
    {enqueue}
){relay}
SELECT last.due_at::text AS last_at,
       last.pipeline_id::text AS last_id,
       (SELECT count(*) FROM due) AS seen,
       outcome.*
FROM (
    SELECT count(*) AS advanced,
           count(*) FILTER (WHERE is_fired) AS fired,
           count(*) FILTER (WHERE is_in_grace AND NOT is_blocked AND before IS NOT NULL AND catch_up = 'latest')
               AS coalesced,
           count(*) FILTER (WHERE is_alive AND NOT is_in_grace) AS expired,
           count(*) FILTER (WHERE is_skipped) AS skipped,
           count(*) FILTER (WHERE is_held) AS held,
           count(*) FILTER (WHERE is_in_grace AND NOT is_blocked AND NOT is_fired) AS taken,
           array_agg(DISTINCT queue) FILTER (WHERE is_fired) AS queues,
           jsonb_object_agg(pipeline_id, error) FILTER (WHERE error IS NOT NULL) AS quarantined
    FROM advanced
) AS outcome
LEFT JOIN LATERAL (
    SELECT due_at, pipeline_id FROM due ORDER BY due_at DESC, pipeline_id DESC LIMIT 1
) AS last ON true

-- name: enqueue_nothing
-- In the enqueue's place, in shadow.
SELECT 1 AS nothing

-- name: relay
-- Beside the enqueue, where queues are routed away: what is routed goes into the outbox, under the run's id.
,
leaving AS (
    {events}
)

-- name: is_followed
-- Whether the run before was taken by another store that has not told its end, and not so long ago that it never will.
EXISTS (
    SELECT FROM scheduler_schedulerun AS followed
    WHERE followed.id = last_run_id AND followed.state = 'fired'
      AND followed.relayed_at > statement_timestamp() - make_interval(hours => {hours})
)

-- name: is_taken
-- Whether another leader, or an earlier one, has recorded this occurrence.
EXISTS (
    SELECT FROM scheduler_schedulerun AS other
    WHERE other.schedule_id = placed.pipeline_id AND other.scheduled_for = placed.latest AND other.origin = 'schedule'
)

-- name: lock_first
-- The first row of a batch, held until the end of the transaction.
SELECT pipeline_id
FROM scheduler_pgperiodicschedule
WHERE enabled AND firer = {firer} AND quarantined_at IS NULL AND hold IS NULL
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

-- name: release_held
-- Let go of the schedules whose run has ended: they are due, and the next batch decides.
UPDATE scheduler_pgperiodicschedule
SET hold = NULL
WHERE pipeline_id = ANY (ARRAY (
    SELECT pipeline_id FROM scheduler_pgperiodicschedule
    WHERE hold = 'overlap' AND NOT coalesce({is_unsettled}, false)
    ORDER BY pipeline_id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
))

-- name: next_due
-- Seconds until there is something to do, by the database's clock (null: nothing is planned), and whether a schedule
-- waits for the end of its run.
SELECT extract(epoch FROM least((
           SELECT next_run_at
           FROM scheduler_pgperiodicschedule
           WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND hold IS NULL AND next_run_at IS NOT NULL
           ORDER BY next_run_at, pipeline_id
           LIMIT 1
       ), (
           SELECT next_run_at
           FROM scheduler_pgperiodicschedule
           WHERE enabled AND firer = 'beat' AND quarantined_at IS NULL AND hold IS NULL AND next_run_at IS NOT NULL
           ORDER BY next_run_at, pipeline_id
           LIMIT 1
       )) - clock_timestamp())::float8,
       EXISTS (SELECT FROM scheduler_pgperiodicschedule WHERE hold = 'overlap' AND enabled)
