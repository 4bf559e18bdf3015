-- script: flags=allow-oom; parts=base records storing ends
-- request: namespace, seed, and what each operation says

-- The record of an outcome that somebody may yet take; nil where an entry has none.
local function outcome_of(id)
    local record = record_of(id)
    local is_one = record and not record.is_broken and record.finished_at and not record.is_forgotten
    return is_one and record or nil
end

local function hand_over(record)
    call('HSET', key('message', record.id), 'taken', '1')
    let_result_run_out(record)
end

-- report_to, limit, hold: the outcomes that are handed over now. One that is held stays in its place, due again later.
function operations.take()
    local reports, rows = zset('reports', request.namespace, request.report_to), {}
    while #rows < request.limit do
        local ids = call('ZRANGE', reports, '-inf', now, 'BYSCORE', 'LIMIT', 0, request.limit - #rows)
        if #ids == 0 then break end
        for _, id in ipairs(ids) do
            local record = outcome_of(id)
            if record then rows[#rows + 1] = row_of(record) end
            if record and request.hold > 0 then
                call('ZADD', reports, now + request.hold, id)
            else
                call('ZREM', reports, id)
                if record then hand_over(record) end
            end
        end
    end
    return rows
end

-- report_to, told (id and end of each): they need not be handed over again.
function operations.confirm()
    local reports = zset('reports', request.namespace, request.report_to)
    for _, one in ipairs(request.told) do
        local id, finished_at = one[1], one[2]
        local record = call('ZSCORE', reports, id) and outcome_of(id)
        if record and record.finished_at == finished_at then
            call('ZREM', reports, id)
            hand_over(record)
        end
    end
    return 0
end

-- ids, keep_attempts, key_ttl (of a key that was deleted meanwhile): those of dead letters that wait again now.
function operations.replay()
    local risen = {}
    local first = call('INCRBY', sound(key('sequence'), 'string'), #request.ids) - #request.ids
    for at, id in ipairs(request.ids) do
        local record = call('ZSCORE', zset('dead'), id) and record_of(id)
        if record and not record.is_broken and record.state == 'failed' and record.namespace == request.namespace then
            forget_letter(record, true)
            call('ZREM', zset('expiring'), id)
            call('ZREM', zset('finished', record.namespace), id)
            if record.report_to then call('ZREM', zset('reports', record.namespace, record.report_to), id) end
            call('HDEL', key('message', id), 'finished_at', 'expires_at', 'taken', 'is_forgotten', 'worker', 'started_at')
            record.sequence, record.run_after = text(first + at), text(now)
            local attempts = request.keep_attempts and math.min(record.attempts, record.max_attempts - 1) or 0
            call('HSET', key('message', id), 'state', 'waiting', 'attempts', text(attempts), 'run_after', record.run_after,
                'sequence', record.sequence)
            call('ZADD', zset('live', record.namespace, record.queue), 0, id)
            call('SADD', set('queues', record.namespace), record.queue)
            stand_in_line(record)
            if record.key then resume_key(record) end
            risen[#risen + 1] = id
        end
    end
    finish_up()
    return risen
end

local function older_than(name, limit, ttl)
    return call('ZRANGE', zset(name), '-inf', now - ttl, 'BYSCORE', 'LIMIT', 0, limit)
end

local function retain_letters()
    if request.dead_letter_ttl <= 0 then return 0 end
    local ids = older_than('dead', request.limit, request.dead_letter_ttl)
    for _, id in ipairs(ids) do
        local record = record_of(id)
        if record and not record.is_broken then
            forget_letter(record)
        else
            call('ZREM', zset('dead'), id)
            call('DEL', key('message', id), key('body', id), key('follow', id))
        end
    end
    return #ids
end

local function retain_barriers()
    if request.result_ttl <= 0 then return 0 end
    local ids = older_than('barriers', request.limit, request.result_ttl)
    for _, id in ipairs(ids) do
        call('ZREM', zset('barriers'), id)
        call('DEL', key('barrier', id))
    end
    return #ids
end

-- limit, dead_letter_ttl, result_ttl: how many outcomes, dead letters, keys and barriers of all namespaces were deleted.
function operations.retain()
    local results, keys = older_than('expiring', request.limit, 0), older_than('keys', request.limit, 0)
    for _, id in ipairs(results) do forget_result(id) end
    for _, name in ipairs(keys) do
        call('ZREM', zset('keys'), name)
        call('DEL', key('key', name))
    end
    return #results + #keys + retain_letters() + retain_barriers()
end

-- before, limit: how many outcomes of this namespace were deleted.
function operations.clear_completed()
    local finished = zset('finished', request.namespace)
    local ids = call('ZRANGE', finished, '-inf', '(' .. request.before, 'BYSCORE', 'LIMIT', 0, request.limit)
    for _, id in ipairs(ids) do
        call('ZREM', finished, id)
        forget_result(id)
    end
    return #ids
end

-- ids: those of dead letters of this namespace that were deleted.
function operations.drop()
    local dropped = {}
    for _, id in ipairs(request.ids) do
        local record = call('ZSCORE', zset('dead'), id) and record_of(id)
        if record and not record.is_broken and record.namespace == request.namespace then
            forget_letter(record)
            dropped[#dropped + 1] = id
        end
    end
    return dropped
end

return serve()
