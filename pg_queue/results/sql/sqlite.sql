-- name: put
-- Keep outcomes; one of an earlier execution of the message, or the same once more, changes nothing.
-- {rows} is put_row as often as there are outcomes, each message once.
INSERT INTO pg_queue_results_result (
    message_id, namespace, state, value, error, attempts, started_at, finished_at, expires_at
)
VALUES {rows}
ON CONFLICT (message_id) DO UPDATE
    SET namespace = excluded.namespace, state = excluded.state, value = excluded.value, error = excluded.error,
        attempts = excluded.attempts, started_at = excluded.started_at, finished_at = excluded.finished_at, expires_at = excluded.expires_at
    WHERE excluded.started_at > pg_queue_results_result.started_at

-- name: put_row
-- One outcome: id, namespace, state, value, error, attempts, when its execution began, milliseconds to live (null: for ever).
-- A null among its arguments makes strftime null.
(%s, %s, %s, %s, %s, %s, %s, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'),
    strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', (%s / 1000.0) || ' seconds'))

-- name: now
-- The present on this machine's clock.
SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')
