-- Ends of messages, and what follows from them: results, dead letters, keys, continuations, barriers.
--   expiring:                     outcomes of all namespaces by the end of their time
--   finished:<ns>                 outcomes that nobody has yet to take, by the instant of their end
--   reports:<ns>|<consumer>       outcomes that their consumer has yet to take: by the same, or held until then
--   dead:, letters:<ns>|<queue>   dead letters, of all namespaces by the instant of their death, and by id
--   barriers:                     ended barriers of all namespaces by the instant of their end

local function end_barrier(id, state, ...)
    call('HSET', key('barrier', id), 'state', state, 'ended_at', text(now), ...)
    call('ZADD', zset('barriers'), now, id)
end

local function store_parcel_of(barrier, name)
    if barrier[name] then store_each(barrier.namespace, { cjson.decode(barrier[name]) }) end
end

local function tell_barrier(record, succeeded)
    local id = record.barrier
    local barrier = hash(key('barrier', id))
    if not barrier or barrier.state ~= 'open' then return end
    if not succeeded then
        end_barrier(id, 'aborted', 'culprit', record.id)
        store_parcel_of(barrier, 'on_abort')
    elseif call('HINCRBY', key('barrier', id), 'remaining', -1) <= 0 then
        end_barrier(id, 'done')
        store_parcel_of(barrier, 'callback')
    end
end

local function continue(record, succeeded)
    local stored = redis.pcall('GET', key('follow', record.id))
    if type(stored) ~= 'string' then return end
    local is_read, follow = pcall(cjson.decode, stored)
    local parcels = is_read and type(follow) == 'table' and follow[succeeded and 1 or 2]
    if parcels then store_each(record.namespace, parcels) end
end

-- An outcome that nobody has yet to take: from now on it may be deleted when its time has come.
local function let_result_run_out(record)
    call('ZADD', zset('finished', record.namespace), record.finished_at, record.id)
    if record.expires_at then call('ZADD', zset('expiring'), record.expires_at, record.id) end
end

-- What is common to all ends of a message. `fields` name and value of what the record keeps; `ttl` in microseconds, 0:
-- for ever.
local function finish(record, state, ttl, ...)
    local where, succeeded = key('message', record.id), state == 'succeeded'
    if record.state == 'running' then stop_running(record) else leave_the_line(record) end
    call('ZREM', zset('live', record.namespace, record.queue), record.id)
    call('HDEL', where, 'token', 'lease_until', 'error', 'progress', 'progress_at')
    record.finished_at = text(now)
    call('HSET', where, 'state', state, 'finished_at', record.finished_at, ...)
    if ttl > 0 then
        record.expires_at = text(now + ttl)
        call('HSET', where, 'expires_at', record.expires_at)
    end
    if record.report_to then
        call('ZADD', zset('reports', record.namespace, record.report_to), record.finished_at, record.id)
    else
        let_result_run_out(record)
    end
    if record.key then let_key_run_out(record) end
    continue(record, succeeded)
    if record.barrier then tell_barrier(record, succeeded) end
    if state ~= 'failed' then call('DEL', key('body', record.id), key('follow', record.id)) end
end

local function succeed(record, value, ttl)
    if value then finish(record, 'succeeded', ttl, 'result', value) else finish(record, 'succeeded', ttl) end
end

-- A success of which nothing is kept, unless somebody needs it.
local function succeed_without_trace(record, ttl)
    local is_missed = record.report_to or record.key or record.barrier or call('EXISTS', key('follow', record.id)) == 1
    if is_missed then return succeed(record, false, ttl) end
    stop_running(record)
    call('ZREM', zset('live', record.namespace, record.queue), record.id)
    call('DEL', key('message', record.id), key('body', record.id))
end

local function bury(record, failure, ttl)
    finish(record, 'failed', ttl, 'error', failure)
    call('ZADD', zset('dead'), now, record.id)
    call('ZADD', zset('letters', record.namespace, record.queue), 0, record.id)
end

local function cancel(record, failure, ttl)
    finish(record, 'cancelled', ttl, 'error', failure)
end

local function failure_of(kind, message)
    return cjson.encode({ type = kind, message = message, traceback = '' })
end
