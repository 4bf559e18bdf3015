-- name: put
-- Keep outcomes; one of an earlier execution of the message, or the same once more, changes nothing.
-- {rows} is put_row as often as there are outcomes, each message once.
-- Assignments are made from left to right, so started_at comes last: all others are compared with the one before.
INSERT INTO pg_queue_results_result (
    message_id, namespace, state, value, error, attempts, started_at, finished_at, expires_at
)
VALUES {rows}
ON DUPLICATE KEY UPDATE
    namespace = IF(VALUES(started_at) > started_at, VALUES(namespace), namespace),
    state = IF(VALUES(started_at) > started_at, VALUES(state), state),
    value = IF(VALUES(started_at) > started_at, VALUES(value), value),
    error = IF(VALUES(started_at) > started_at, VALUES(error), error),
    attempts = IF(VALUES(started_at) > started_at, VALUES(attempts), attempts),
    finished_at = IF(VALUES(started_at) > started_at, VALUES(finished_at), finished_at),
    expires_at = IF(VALUES(started_at) > started_at, VALUES(expires_at), expires_at),
    started_at = GREATEST(VALUES(started_at), started_at)

-- name: put_row
-- One outcome: id, namespace, state, value, error, attempts, when its execution began, milliseconds to live (null: for ever).
-- UTC_TIMESTAMP, as Django writes instants: NOW() is in the session's timezone.
(%s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL (%s * 1000) MICROSECOND)

-- name: now
-- The present on this server's clock.
SELECT UTC_TIMESTAMP(6)
