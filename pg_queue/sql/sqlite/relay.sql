-- name: publish_from
-- Of a relation of the caller's, the rows whose queue is routed away, as events whose payload is the message as a parcel
-- (`pg_queue.storage.parcels`), as the end of the caller's own statement; `:now` is its instant.
INSERT INTO pg_queue_event (id, namespace, topic, key, payload, created_at, run_after)
SELECT
    id, {namespace}, {topic},
    substr(id, 1, 8) || '-' || substr(id, 9, 4) || '-' || substr(id, 13, 4) || '-' || substr(id, 17, 4) || '-' ||
        substr(id, 21),
    json_patch(
        json_object(
            'id', id, 'task', task, 'args', json(args), 'kwargs', json(kwargs), 'queue', queue, 'priority', priority,
            'headers', json({headers}), 'organization_id', organization_id, 'report_to', report_to,
            'max_attempts', coalesce({once_by_task}, max_attempts, {attempts_by_task}, {max_attempts})
        ),
        CASE WHEN run_after IS NULL THEN '{{}}' ELSE json_object('run_after', run_after || '+00:00') END
    ),
    :now, :now
FROM {source}
WHERE {topic} IS NOT NULL

-- name: staying
-- The other rows.
SELECT * FROM {source} WHERE {topic} IS NULL

-- name: is_leaving
-- A condition of the caller's own statement: this message was routed away, and its target has not taken it yet.
EXISTS (SELECT 1 FROM pg_queue_event AS leaving WHERE leaving.id = {message_id})
