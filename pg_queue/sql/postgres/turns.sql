-- name: create_waiting
-- pg_queue_waiting: who has due messages in one slot (namespace, queue, priority): at most `room` organizations, by
-- name from `start` on and then from the first name on. A loose scan of the turns index: each step is one descent to
-- the next organization's first message, however many messages each has; one whose messages are all delayed costs that
-- one step, and so does one that is full (it runs as much as it may).
CREATE OR REPLACE FUNCTION pg_queue_waiting(
    tenant text, queue_name text, rank integer, room integer, start text, full_names text[]
) RETURNS text[] LANGUAGE plpgsql AS $body$
DECLARE
    names text[] := '{}';
    after text := start;
    until text := '';
BEGIN
    LOOP
        names := names || ARRAY(
            WITH RECURSIVE seen AS (
                (
                    SELECT m.organization_id::text AS name, m.run_after, 0 AS found, 1 AS step
                    FROM pg_queue_message AS m
                    WHERE m.namespace = tenant AND m.queue = queue_name AND m.priority = rank AND m.lease_until IS NULL
                        AND m.organization_id >= after
                    ORDER BY m.organization_id, m.run_after, m.sequence
                    LIMIT 1
                )
                UNION ALL
                SELECT
                    next.name, next.run_after,
                    seen.found + (seen.run_after <= now() AND seen.name <> ALL (full_names))::integer, seen.step + 1
                FROM seen
                CROSS JOIN LATERAL (
                    SELECT m.organization_id::text AS name, m.run_after
                    FROM pg_queue_message AS m
                    WHERE m.namespace = tenant AND m.queue = queue_name AND m.priority = rank AND m.lease_until IS NULL
                        AND m.organization_id > seen.name
                    ORDER BY m.organization_id, m.run_after, m.sequence
                    LIMIT 1
                ) AS next
                WHERE seen.found < room - cardinality(names) AND seen.step < 20 * room
                    AND (until = '' OR seen.name < until)
            )
            SELECT seen.name
            FROM seen
            WHERE seen.run_after <= now() AND seen.name <> ALL (full_names) AND (until = '' OR seen.name < until)
            LIMIT room - cardinality(names)
        );
        EXIT WHEN after = '' OR cardinality(names) >= room;
        until := after;
        after := '';
    END LOOP;
    RETURN names;
END
$body$

-- name: create_full
-- pg_queue_full: the organizations that run as much as they may, given how many messages of each run.
CREATE OR REPLACE FUNCTION pg_queue_full(running jsonb, rules jsonb) RETURNS text[] LANGUAGE plpgsql AS $body$
BEGIN
    RETURN ARRAY(
        SELECT one.key
        FROM jsonb_each_text(running) AS one
        WHERE one.value::integer >= COALESCE(rules -> 'max_running' ->> one.key, rules ->> 'most_running')::integer
    );
END
$body$

-- name: create_take
-- pg_queue_take: lock at most `wanted` more due messages of one slot, by turns; their ids are added to `taken`, their
-- numbers by organization to `running`. Each organization has a quota in proportion to its weight, first in first out.
-- What one does not use up is shared out among the others, round by round. The quotas are those of systematic
-- sampling, a random order and one random number for where it begins: so each gets its exact share in the long run,
-- also where `wanted` is 1.
-- Organization and now() bound the range of the turns index: delayed messages are never walked.
-- An unclaimed message is found by its lease here, as in the condition of the turns index: that of the ready index is
-- its token. So no other index will do, also where a plan is made while the table is empty and all would cost the same.
-- No more rows are locked than are taken, since each quota is a LIMIT above the lock.
CREATE OR REPLACE FUNCTION pg_queue_take(
    tenant text, queue_name text, rank integer, wanted integer, start text, rules jsonb,
    INOUT taken uuid[], INOUT running jsonb
) LANGUAGE plpgsql AS $body$
DECLARE
    room integer := 32 + LEAST(wanted, 300) / 4;
    names text[] := pg_queue_waiting(tenant, queue_name, rank, room, start, pg_queue_full(running, rules));
    shift double precision;
    outcome record;
BEGIN
    FOR attempt IN 1..8 LOOP
        EXIT WHEN wanted <= 0 OR names IS NULL;
        shift := random();
        WITH organization AS (
            SELECT
                o.name, random() AS place,
                COALESCE(rules -> 'weights' ->> o.name, rules ->> 'default_weight')::double precision AS weight,
                COALESCE(rules -> 'max_running' ->> o.name, rules ->> 'most_running')::integer
                    - COALESCE((running ->> o.name)::integer, 0) AS allowance
            FROM unnest(names) AS o (name)
        ),
        laid_out AS (
            SELECT o.*, sum(o.weight) OVER (ORDER BY o.place) AS upto, sum(o.weight) OVER () / wanted AS step
            FROM organization AS o
        ),
        share AS (
            SELECT
                l.name, l.place, l.allowance,
                LEAST(
                    floor(l.upto / l.step + shift) - floor((l.upto - l.weight) / l.step + shift), l.allowance
                )::integer AS quota
            FROM laid_out AS l
        ),
        locked AS (
            SELECT
                s.name, due.id,
                (row_number() OVER (PARTITION BY s.name ORDER BY due.run_after, due.sequence) - s.place) / s.quota
                    AS turn
            FROM share AS s
            CROSS JOIN LATERAL (
                SELECT m.id, m.run_after, m.sequence
                FROM pg_queue_message AS m
                WHERE m.namespace = tenant AND m.queue = queue_name AND m.priority = rank AND m.lease_until IS NULL
                    AND m.organization_id = s.name AND m.run_after <= now() AND m.id <> ALL (taken)
                ORDER BY m.run_after, m.sequence
                LIMIT s.quota
                FOR UPDATE SKIP LOCKED
            ) AS due
            WHERE s.quota > 0
        ),
        used AS (
            SELECT l.name, count(*)::integer AS number FROM locked AS l GROUP BY l.name
        )
        SELECT
            ARRAY(SELECT l.id FROM locked AS l ORDER BY l.turn) AS ids,
            (SELECT jsonb_object_agg(u.name, u.number + COALESCE((running ->> u.name)::integer, 0)) FROM used AS u)
                AS numbers,
            array_agg(s.name) AS others
        INTO outcome
        FROM share AS s
        LEFT JOIN used AS u ON u.name = s.name
        WHERE COALESCE(u.number, 0) = s.quota AND (s.allowance > s.quota) IS NOT FALSE;
        taken := taken || outcome.ids;
        running := running || COALESCE(outcome.numbers, '{}');
        wanted := wanted - cardinality(outcome.ids);
        names := outcome.others;
    END LOOP;
END
$body$

-- name: create_running
-- pg_queue_running: how many messages of each organization run, or are about to: those with these ids.
CREATE OR REPLACE FUNCTION pg_queue_running(tenant text, picked uuid[]) RETURNS jsonb LANGUAGE plpgsql AS $body$
BEGIN
    RETURN (
        SELECT COALESCE(jsonb_object_agg(one.organization_id, one.number), '{}')
        FROM (
            SELECT busy.organization_id, count(*) AS number
            FROM (
                SELECT m.organization_id
                FROM pg_queue_message AS m
                WHERE m.namespace = tenant AND m.claim_token IS NOT NULL
                UNION ALL
                SELECT m.organization_id FROM pg_queue_message AS m WHERE m.id = ANY (picked)
            ) AS busy
            GROUP BY busy.organization_id
        ) AS one
    );
END
$body$

-- name: create_overdue
-- pg_queue_overdue: lock at most `wanted` messages that have been due for so long, the oldest first whatever their
-- priority, and return their ids in that order. At most `wanted` are read of each slot.
CREATE OR REPLACE FUNCTION pg_queue_overdue(
    tenant text, queues text[], wanted integer, seconds double precision, rules jsonb, running jsonb
) RETURNS uuid[] LANGUAGE plpgsql AS $body$
DECLARE
    ids uuid[];
BEGIN
    ids := ARRAY(
        SELECT one.id
        FROM (
            SELECT
                due.*, row_number() OVER (PARTITION BY due.organization_id ORDER BY due.run_after, due.sequence)
                    + COALESCE((running ->> due.organization_id)::integer, 0) AS number
            FROM unnest(queues) AS q (name)
            CROSS JOIN generate_series(1, 10) AS p (priority)
            CROSS JOIN LATERAL (
                SELECT m.id, m.organization_id, m.run_after, m.sequence
                FROM pg_queue_message AS m
                WHERE m.namespace = tenant AND m.queue = q.name AND m.priority = p.priority AND m.claim_token IS NULL
                    AND m.run_after <= now() - make_interval(secs => seconds)
                ORDER BY m.run_after, m.sequence
                LIMIT wanted
            ) AS due
        ) AS one
        WHERE (
            one.number
            <= COALESCE(rules -> 'max_running' ->> one.organization_id, rules ->> 'most_running')::integer
        ) IS NOT FALSE
        ORDER BY one.run_after, one.sequence
        LIMIT wanted
    );
    RETURN ARRAY(
        SELECT m.id
        FROM pg_queue_message AS m
        WHERE m.id = ANY (ids) AND m.claim_token IS NULL
        ORDER BY m.run_after, m.sequence
        FOR UPDATE SKIP LOCKED
    );
END
$body$

-- name: create_pick
-- pg_queue_pick: lock the next due messages and return their ids, in the order in which they are to run.
-- Queues as given, then the higher priority; in each such slot the organizations take turns. Slots are looked at one by
-- one, through a cursor: those after the last one needed cost nothing. A slot is a range of the ready index that ends
-- at now(), so delayed messages are never walked. Where one organization alone waits (the first and the last in the
-- turns index), and no number of running messages is limited, its messages are that range from its beginning. So is what
-- the turns leave over: where more organizations wait than were looked at, or others hold what was looked at.
-- `rules`: weights, and how many messages an organization may run. `starts`: per slot, where the scan for organizations
-- begins, where there are too many to look at all of them. `aged`: seconds, to begin with what is due for so long.
-- The settings hold for what is called from here, too. Plans are made once per session, when the table may be empty:
-- whatever it holds then, its rows are to be read through an index that has them in the order wanted.
CREATE OR REPLACE FUNCTION pg_queue_pick(
    tenant text, queues text[], wanted integer, rules jsonb, starts jsonb, aged double precision
) RETURNS uuid[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $body$
DECLARE
    is_limited boolean := rules -> 'is_limited';
    picked uuid[] := '{}';
    running jsonb := '{}';
    turns record;
    open_queues text[] := ARRAY(
        SELECT q.name
        FROM unnest(queues) WITH ORDINALITY AS q (name, rank)
        WHERE NOT ARRAY[q.name, ''] && ARRAY(
            SELECT s.queue::text FROM pg_queue_switch AS s WHERE s.namespace = tenant AND NOT s.is_on
        )
        ORDER BY q.rank
    );
    slots CURSOR FOR
        SELECT slot.name, slot.priority, due.organization_id <> (
            SELECT m.organization_id
            FROM pg_queue_message AS m
            WHERE m.namespace = tenant AND m.queue = slot.name AND m.priority = slot.priority AND m.lease_until IS NULL
            ORDER BY m.organization_id, m.run_after, m.sequence
            LIMIT 1
        ) OR due.organization_id <> (
            SELECT m.organization_id
            FROM pg_queue_message AS m
            WHERE m.namespace = tenant AND m.queue = slot.name AND m.priority = slot.priority AND m.lease_until IS NULL
            ORDER BY m.organization_id DESC, m.run_after DESC, m.sequence DESC
            LIMIT 1
        ) AS is_shared
        FROM (
            SELECT q.name, q.rank, p.priority
            FROM unnest(open_queues) WITH ORDINALITY AS q (name, rank)
            CROSS JOIN generate_series(10, 1, -1) AS p (priority)
            ORDER BY q.rank, p.priority DESC
            OFFSET 0
        ) AS slot
        CROSS JOIN LATERAL (
            SELECT m.organization_id
            FROM pg_queue_message AS m
            WHERE m.namespace = tenant AND m.queue = slot.name AND m.priority = slot.priority
                AND m.claim_token IS NULL AND m.run_after <= now()
            ORDER BY m.run_after, m.sequence
            LIMIT 1
        ) AS due;
BEGIN
    IF is_limited THEN
        -- One at a time, and then counted by a statement that sees what the one before has committed.
        PERFORM pg_advisory_xact_lock(hashtextextended('pg_queue.max_running ' || tenant, 0));
        running := pg_queue_running(tenant, picked);
    END IF;
    IF aged IS NOT NULL THEN
        picked := pg_queue_overdue(tenant, open_queues, wanted, aged, rules, running);
        running := CASE WHEN is_limited THEN pg_queue_running(tenant, picked) ELSE running END;
    END IF;
    FOR slot IN slots LOOP
        EXIT WHEN cardinality(picked) >= wanted;
        IF is_limited OR slot.is_shared THEN
            turns := pg_queue_take(
                tenant, slot.name, slot.priority, wanted - cardinality(picked),
                COALESCE(starts ->> (slot.name || ' ' || slot.priority), ''), rules, picked, running
            );
            picked := turns.taken;
            running := turns.running;
        END IF;
        IF cardinality(picked) < wanted AND NOT is_limited THEN
            picked := picked || ARRAY(
                SELECT m.id
                FROM pg_queue_message AS m
                WHERE m.namespace = tenant AND m.queue = slot.name AND m.priority = slot.priority
                    AND m.claim_token IS NULL AND m.run_after <= now() AND m.id <> ALL (picked)
                ORDER BY m.run_after, m.sequence
                LIMIT wanted - cardinality(picked)
                FOR UPDATE SKIP LOCKED
            );
        END IF;
    END LOOP;
    RETURN picked[:wanted];
END
$body$
