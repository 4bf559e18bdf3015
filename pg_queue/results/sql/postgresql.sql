-- name: put
-- Keep outcomes; one of an earlier execution of the message, or the same once more, changes nothing.
-- {rows} is put_row as often as there are outcomes, each message once.
INSERT INTO pg_queue_results_result AS kept (
    message_id, namespace, state, value, error, attempts, started_at, finished_at, expires_at
)
VALUES {rows}
ON CONFLICT (message_id) DO UPDATE
    SET namespace = EXCLUDED.namespace, state = EXCLUDED.state, value = EXCLUDED.value, error = EXCLUDED.error,
        attempts = EXCLUDED.attempts, started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at, expires_at = EXCLUDED.expires_at
    WHERE EXCLUDED.started_at > kept.started_at

-- name: put_row
-- One outcome: id, namespace, state, value, error, attempts, when its execution began, milliseconds to live (null: for ever).
(%s, %s, %s, %s, %s, %s, %s, clock_timestamp(),
    clock_timestamp() + make_interval(secs => (%s / 1000.0)::double precision))

-- name: now
-- The present on this server's clock.
SELECT clock_timestamp()
