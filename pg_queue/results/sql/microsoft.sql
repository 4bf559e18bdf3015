-- name: put
-- Keep outcomes; one of an earlier execution of the message, or the same once more, changes nothing.
-- {rows} is put_row as often as there are outcomes, each message once.
-- HOLDLOCK: without it two sessions may both find that a row is not there, and the second one's insert fails.
-- Seconds and days apart: DATEADD takes an int, which is too small for the milliseconds of a month.
MERGE INTO pg_queue_results_result WITH (HOLDLOCK) AS kept
USING (VALUES {rows}) AS given (message_id, namespace, state, value, error, attempts, started_at, ttl)
ON kept.message_id = given.message_id
WHEN MATCHED AND given.started_at > kept.started_at THEN UPDATE SET
    namespace = given.namespace, state = given.state, value = given.value, error = given.error,
    attempts = given.attempts, started_at = given.started_at, finished_at = SYSDATETIMEOFFSET(),
    expires_at = DATEADD(
        millisecond, given.ttl %% 86400000, DATEADD(day, given.ttl / 86400000, SYSDATETIMEOFFSET())
    )
WHEN NOT MATCHED BY TARGET THEN INSERT (
    message_id, namespace, state, value, error, attempts, started_at, finished_at, expires_at
) VALUES (
    given.message_id, given.namespace, given.state, given.value, given.error, given.attempts, given.started_at, SYSDATETIMEOFFSET(),
    DATEADD(millisecond, given.ttl %% 86400000, DATEADD(day, given.ttl / 86400000, SYSDATETIMEOFFSET()))
);

-- name: put_row
-- One outcome: id, namespace, state, value, error, attempts, when its execution began, milliseconds to live (null: for ever).
-- The casts give a column of nothing but nulls its type, and the id its column's: the driver's own, nvarchar, would have
-- every id in the table converted for the comparison.
(CAST(%s AS char(32)), %s, %s, CAST(%s AS nvarchar(max)), CAST(%s AS nvarchar(max)), %s, CAST(%s AS datetimeoffset), CAST(%s AS bigint))

-- name: now
-- The present on this server's clock.
SELECT SYSDATETIMEOFFSET()
