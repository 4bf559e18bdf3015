-- name: enqueue_from
-- Store a message for each row of a relation of the caller's, as the end of the caller's own statement; `:now` is its
-- instant. The values that are the project's own (the tasks' policies, a number) are literals.
INSERT INTO pg_queue_message (
    id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, max_attempts, run_after,
    enqueued_at
)
SELECT
    id, {namespace}, queue, priority, task, args, kwargs, {headers}, organization_id, report_to,
    coalesce({once_by_task}, max_attempts, {attempts_by_task}, {max_attempts}), max(coalesce(run_after, :now), :now), :now
FROM {source}

-- name: expiring_headers
-- The headers of a row of the caller's relation, with the instant until which its task may be begun, where that has one.
CASE WHEN {expires_by_task} IS NULL OR json_extract(headers, '$.expires_at') IS NOT NULL THEN headers
ELSE json_set(headers, '$.expires_at', strftime(
    '%Y-%m-%dT%H:%M:%f+00:00', max(coalesce(run_after, :now), :now), '+' || {expires_by_task} || ' seconds'))
END

-- name: is_unsettled
-- A condition of the caller's own statement: this message waits, runs or is to be tried again.
EXISTS (SELECT 1 FROM pg_queue_message AS unsettled WHERE unsettled.id = {message_id})
