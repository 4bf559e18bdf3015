-- name: wait_for_lock
-- Wait for the lock as long as lock_timeout allows. The error is caught here, or every round of every standby would be
-- a line in the server's log. The key is a literal because DO takes no parameters.
DO $wait$ BEGIN
    PERFORM pg_advisory_lock({key});
EXCEPTION WHEN lock_not_available THEN NULL;
END $wait$

-- name: lift_lock_timeout
-- The short limit was for standing in line: a leader's statements wait for locks as long as they may take in all.
SELECT set_config('lock_timeout', '0', false)

-- name: read_standing
-- Whether this session holds the lock, and what the leader row says.
SELECT EXISTS (
           SELECT FROM pg_locks
           WHERE pid = pg_backend_pid() AND granted AND locktype = 'advisory' AND objsubid = 1
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND classid = %(key_high)s::oid AND objid = %(key_low)s::oid
       ) AS is_holder,
       leader.term,
       leader.host,
       leader.process_id,
       extract(epoch FROM clock_timestamp() - leader.heartbeat_at)::float8 AS stamp_age_seconds
FROM (SELECT) AS one LEFT JOIN pg_queue_leader AS leader ON leader.name = %(name)s

-- name: take_over
-- Begin a term. The gap that nobody led starts at the last stamp of the last term that did anything.
INSERT INTO pg_queue_leader AS leader
    (name, term, pid, backend_start, host, process_id, since, heartbeat_at, previous_heartbeat_at, resigned_at)
SELECT %(name)s, 1, activity.pid, activity.backend_start, %(host)s, %(process_id)s,
       clock_timestamp(), clock_timestamp(), NULL, NULL
FROM pg_stat_activity AS activity
WHERE activity.pid = pg_backend_pid()
ON CONFLICT (name) DO UPDATE
SET term = leader.term + 1,
    pid = excluded.pid,
    backend_start = excluded.backend_start,
    host = excluded.host,
    process_id = excluded.process_id,
    since = excluded.since,
    heartbeat_at = excluded.since,
    previous_heartbeat_at =
        CASE WHEN leader.heartbeat_at > leader.since THEN leader.heartbeat_at ELSE leader.previous_heartbeat_at END,
    resigned_at = NULL
RETURNING term, since, previous_heartbeat_at

-- name: stamp
-- Say that the term goes on. No row: it does not, or another session speaks.
-- What follows in the same transaction is cut off after so long, also on servers without transaction_timeout; outside of
-- one the setting ends with this statement.
UPDATE pg_queue_leader SET heartbeat_at = clock_timestamp()
WHERE name = %(name)s AND term = %(term)s AND pid = pg_backend_pid()
RETURNING heartbeat_at, set_config('statement_timeout', %(batch_timeout)s, true)

-- name: resign
-- End the term in good order.
UPDATE pg_queue_leader SET heartbeat_at = clock_timestamp(), resigned_at = clock_timestamp()
WHERE name = %(name)s AND term = %(term)s AND pid = pg_backend_pid()

-- name: unlock
-- Let the next one have it, now.
SELECT pg_advisory_unlock(%(key)s)

-- name: terminate_stale
-- End the session of a leader whose stamp is too old: only if it holds this lock, and is the session of that stamp (a
-- pid can be used again).
SELECT pg_terminate_backend(lock.pid)
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
JOIN pg_queue_leader AS leader
  ON leader.name = %(name)s AND leader.pid = lock.pid AND leader.backend_start = activity.backend_start
WHERE lock.granted AND lock.locktype = 'advisory' AND lock.objsubid = 1
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND lock.classid = %(key_high)s::oid AND lock.objid = %(key_low)s::oid
  AND leader.heartbeat_at < clock_timestamp() - make_interval(secs => %(stale_seconds)s)

-- name: living_leaders
-- Who leads each election now. A leader that was killed leaves its row behind, but not its session.
SELECT name, term, process_id, host FROM pg_queue_leader AS leader
WHERE process_id IS NOT NULL AND resigned_at IS NULL AND EXISTS (
    SELECT FROM pg_stat_activity AS session
    WHERE session.pid = leader.pid AND session.backend_start = leader.backend_start
)
ORDER BY name
