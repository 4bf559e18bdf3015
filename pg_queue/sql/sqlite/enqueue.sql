-- name: enqueue_from
-- Store a message for each row of a relation of the caller's, as the end of the caller's own statement; `:now` is its
-- instant. The values that are the project's own (the tasks' policies, a number) are literals.
INSERT INTO pg_queue_message (
    id, namespace, queue, priority, task, args, kwargs, headers, organization_id, report_to, max_attempts, run_after,
    enqueued_at
)
SELECT
    id, {namespace}, queue, priority, task, args, kwargs, headers, organization_id, report_to,
    coalesce({once_by_task}, max_attempts, {attempts_by_task}, {max_attempts}), max(coalesce(run_after, :now), :now), :now
FROM {source}

-- name: is_unsettled
-- A condition of the caller's own statement: this message waits, runs or is to be tried again.
EXISTS (SELECT 1 FROM pg_queue_message AS unsettled WHERE unsettled.id = {message_id})
