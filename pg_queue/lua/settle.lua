-- script: flags=allow-oom; parts=base records storing ends publishing
-- request: seed, and what each operation says; claims are pairs of a message's id and a token

-- settlements: lists of id, token, kind, value or failure, microseconds (the delay of a retry; of the others their time to
-- live), failure's time to live, events. Returns what became of each.
function operations.settle()
    local answers = {}
    for at, settlement in ipairs(request.settlements) do
        local id, token, kind, kept, duration, ttl, events = unpack(settlement)
        local record = held_by(id, token)
        if not record then
            answers[at] = 'lost'
        elseif kind == 'success' then
            succeed(record, kept, duration)
            answers[at] = 'done'
        elseif kind == 'traceless' then
            succeed_without_trace(record, duration)
            answers[at] = 'done'
        elseif kind == 'retry' and tonumber(record.attempts) < tonumber(record.max_attempts) then
            record.run_after = text(now + duration)
            wait_again(record, { 'run_after', record.run_after, 'error', kept })
            answers[at] = 'retrying'
        else
            bury(record, kept, ttl)
            answers[at] = 'dead'
        end
        if record and events then publish(record.namespace, events) end
    end
    finish_up()
    return answers
end

-- claims, lease: the tokens that hold.
function operations.renew()
    local held = {}
    for _, pair in ipairs(request.claims) do
        local id, token = unpack(pair)
        if held_by(id, token) then
            call('ZADD', zset('leases'), now + request.lease, id)
            call('HSET', key('message', id), 'lease_until', text(now + request.lease))
            held[#held + 1] = token
        end
    end
    return held
end

-- reports: lists of id, token, progress. The tokens that hold.
function operations.note_progress()
    local held = {}
    for _, report in ipairs(request.reports) do
        local id, token, progress = unpack(report)
        if held_by(id, token) then
            call('HSET', key('message', id), 'progress', progress, 'progress_at', text(now))
            held[#held + 1] = token
        end
    end
    return held
end

-- claims: the tokens that were given up.
function operations.release()
    local given_up = {}
    for _, pair in ipairs(request.claims) do
        local id, token = unpack(pair)
        local record = held_by(id, token)
        if record then
            wait_again(record, { 'attempts', text(math.max(0, record.attempts - 1)) })
            call('HDEL', key('message', id), 'started_at')
            given_up[#given_up + 1] = token
        end
    end
    finish_up()
    return given_up
end

-- limit, result_ttl: how many claims were taken back, of all namespaces.
function operations.expire()
    local ids = call('ZRANGE', zset('leases'), '-inf', now, 'BYSCORE', 'LIMIT', 0, request.limit)
    for _, id in ipairs(ids) do
        local record = record_of(id)
        if not record or record.is_broken or record.state ~= 'running' then
            call('ZREM', zset('leases'), id)
        else
            local vanished = ': the lease of worker ' .. (record.worker or '') .. ' ran out'
            if tonumber(record.attempts) < tonumber(record.max_attempts) then
                local failure = failure_of('worker.vanished', 'attempt ' .. record.attempts .. vanished)
                wait_again(record, { 'error', failure })
            else
                local which = 'attempt ' .. record.attempts .. ' of ' .. record.max_attempts
                bury(record, failure_of('worker.vanished', which .. vanished), request.result_ttl)
            end
        end
    end
    finish_up()
    return #ids
end

-- For how many microseconds the oldest lease of all namespaces has run out; 0: none has.
function operations.overdue()
    local first = call('ZRANGE', zset('leases'), 0, 0, 'WITHSCORES')
    return text(first[2] and math.max(0, now - tonumber(first[2])) or 0)
end

-- Who or why, and what the message was doing: worded as `pg_queue.storage.failures` does.
local function why_cancelled(record)
    local which = record.attempts .. ' of ' .. record.max_attempts
    local doing = record.state == 'running' and 'during attempt ' .. which
        or 'while it waited, after ' .. which .. ' attempts'
    local reason = request.reason ~= '' and request.reason or 'cancelled'
    return failure_of('message.cancelled', reason .. ' (' .. doing .. ')')
end

-- ids, namespace, reason, result_ttl: the ids of those that were cancelled.
function operations.cancel()
    local cancelled = {}
    for _, id in ipairs(request.ids) do
        local record = record_of(id)
        local is_ours = record and not record.is_broken and record.namespace == request.namespace
        if is_ours and (record.state == 'waiting' or record.state == 'running') then
            cancel(record, why_cancelled(record), request.result_ttl)
            cancelled[#cancelled + 1] = id
        end
    end
    finish_up()
    return cancelled
end

-- queue, namespace, limit, reason, result_ttl: how many waiting messages of the queue were cancelled.
function operations.purge()
    local live = zset('live', request.namespace, request.queue)
    local running = zset('running', request.namespace, request.queue)
    local cancelled, from = 0, '-'
    while cancelled < request.limit do
        local ids = call('ZRANGE', live, from, '+', 'BYLEX', 'LIMIT', 0, 200)
        if #ids == 0 then break end
        for _, id in ipairs(ids) do
            if cancelled < request.limit and not call('ZSCORE', running, id) then
                local record = record_of(id)
                if record and not record.is_broken and record.state == 'waiting' then
                    cancel(record, why_cancelled(record), request.result_ttl)
                    cancelled = cancelled + 1
                else
                    call('ZREM', live, id)
                end
            end
        end
        from = '(' .. ids[#ids]
    end
    finish_up()
    return cancelled
end

return serve()
