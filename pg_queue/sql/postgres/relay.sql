-- name: leaving
-- Of a relation of the caller's, the rows whose queue is routed away, as events whose payload is the message as a parcel
-- (`pg_queue.storage.parcels`). As with `enqueue_from`, the values that are the project's own are literals.
SELECT
    id, {topic} AS topic, id::text AS key,
    jsonb_build_object(
        'id', id, 'task', task, 'args', args, 'kwargs', kwargs, 'queue', queue, 'priority', priority,
        'headers', {headers}, 'organization_id', organization_id, 'report_to', report_to,
        'max_attempts', COALESCE(
            ({once_by_task}::jsonb ->> task)::smallint, max_attempts, ({attempts_by_task}::jsonb ->> task)::smallint,
            {max_attempts}
        )
    )
    || CASE WHEN run_after IS NULL THEN '{{}}' ELSE jsonb_build_object('run_after', run_after) END AS payload
FROM {source}
WHERE {topic} IS NOT NULL

-- name: staying
-- The other rows.
SELECT * FROM {source} WHERE {topic} IS NULL

-- name: is_leaving
-- A condition of the caller's own statement: this message was routed away, and its target has not taken it yet.
EXISTS (SELECT FROM pg_queue_event AS leaving WHERE leaving.id = {message_id})
