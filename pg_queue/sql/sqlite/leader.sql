-- name: read_leader
-- What the leader row says.
SELECT term, host, process_id, heartbeat_at, resigned_at IS NOT NULL FROM pg_queue_leader WHERE name = :name

-- name: take_over
-- Begin a term, unless somebody else has begun one since the row was read: no row is returned then. The gap that nobody
-- led starts at the last stamp of the last term that did anything.
INSERT INTO pg_queue_leader (name, term, host, process_id, since, heartbeat_at)
VALUES (:name, 1, :host, :process_id, :now, :now)
ON CONFLICT (name) DO UPDATE
SET term = term + 1,
    pid = NULL,
    backend_start = NULL,
    host = excluded.host,
    process_id = excluded.process_id,
    since = excluded.since,
    heartbeat_at = excluded.since,
    previous_heartbeat_at = CASE WHEN heartbeat_at > since THEN heartbeat_at ELSE previous_heartbeat_at END,
    resigned_at = NULL
WHERE term = :seen_term AND heartbeat_at IS :seen_heartbeat_at
RETURNING term, previous_heartbeat_at

-- name: stamp
-- Say that the term goes on. No row is changed: it does not.
UPDATE pg_queue_leader SET heartbeat_at = :now WHERE name = :name AND term = :term AND resigned_at IS NULL

-- name: resign
-- End the term in good order.
UPDATE pg_queue_leader SET heartbeat_at = :now, resigned_at = :now
WHERE name = :name AND term = :term AND resigned_at IS NULL
