-- script: flags=allow-oom; parts=base
-- request: namespace, and what each operation says
--
-- A worker is a hash `worker:<id>`, in `workers:<ns>` and, of all namespaces, in `heartbeats:` by its last heartbeat.

local function note_beat(id, namespace)
    call('ZADD', zset('heartbeats'), now, id)
    call('ZADD', zset('workers', namespace), now, id)
end

-- id, host, process_id, queues (JSON), concurrency
function operations.announce()
    local where = key('worker', request.id)
    call('DEL', where)
    call('HSET', where, 'namespace', request.namespace, 'host', request.host, 'process_id', request.process_id, 'queues',
        request.queues, 'concurrency', request.concurrency, 'started_at', text(now), 'heartbeat_at', text(now), 'running', 0,
        'finished', 0, 'failed', 0)
    note_beat(request.id, request.namespace)
    return 1
end

-- id, running, finished, failed, is_last, statistics (JSON, or none): 1 if the worker is on record.
function operations.beat()
    local where = key('worker', request.id)
    local worker = hash(where)
    if not worker or worker.namespace ~= request.namespace then return 0 end
    call('HSET', where, 'heartbeat_at', text(now), 'running', request.running, 'finished', request.finished, 'failed',
        request.failed)
    if request.statistics then call('HSET', where, 'statistics', request.statistics) end
    if request.is_last then call('HSET', where, 'stopped_at', text(now)) end
    note_beat(request.id, worker.namespace)
    return 1
end

-- age, limit: how many workers of all namespaces were forgotten.
function operations.forget()
    local ids = call('ZRANGE', zset('heartbeats'), '-inf', '(' .. text(now - request.age), 'BYSCORE', 'LIMIT', 0,
        request.limit)
    for _, id in ipairs(ids) do
        local worker = hash(key('worker', id))
        call('ZREM', zset('heartbeats'), id)
        if worker and worker.namespace then call('ZREM', zset('workers', worker.namespace), id) end
        call('DEL', key('worker', id))
    end
    return #ids
end

-- Rows of id, host, process_id, queues, concurrency, started_at, heartbeat_at, stopped_at, running, finished, failed,
-- statistics, now.
function operations.list()
    local rows, workers = {}, zset('workers', request.namespace)
    for _, id in ipairs(call('ZRANGE', workers, 0, -1, 'REV')) do
        local w = hash(key('worker', id))
        if w and w.host and w.heartbeat_at then
            rows[#rows + 1] = {
                id, w.host, w.process_id or '0', w.queues or '[]', w.concurrency or '0', w.started_at or w.heartbeat_at,
                w.heartbeat_at, w.stopped_at or '', w.running or '0', w.finished or '0', w.failed or '0',
                w.statistics or '{}',
                text(now),
            }
        else
            call('ZREM', workers, id)
        end
    end
    return rows
end

return serve()
