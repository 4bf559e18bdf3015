-- script: flags=allow-oom; parts=base records
-- request: namespace, and what each operation says

local function add_row(rows, id, with_body)
    local record = record_of(id)
    if not record or record.is_broken or record.namespace ~= request.namespace then return end
    if with_body then record.body = body_of(id) end
    rows[#rows + 1] = row_of(record)
end

-- ids: the messages of this namespace that are known by them.
function operations.get()
    local rows = {}
    for _, id in ipairs(request.ids) do
        local is_forgotten = redis.pcall('HGET', key('message', id), 'is_forgotten')
        if is_forgotten == false then add_row(rows, id) end
    end
    return rows
end

local function queues()
    local names = call('SMEMBERS', set('queues', request.namespace))
    table.sort(names)
    return names
end

-- Unclaimed messages of one slot: how many are due, how many are delayed, and since when the first is due.
local function count_slot(slot)
    local due, all, oldest = 0, 0, false
    local organizations = call('ZRANGE', zset('organizations', slot), 0, -1, 'WITHSCORES')
    for at = 1, #organizations, 2 do
        local waiting = zset('waiting', slot, organizations[at])
        due = due + call('ZCOUNT', waiting, '-inf', now)
        all = all + call('ZCARD', waiting)
        local head = tonumber(organizations[at + 1])
        if head <= now and (not oldest or head < oldest) then oldest = head end
    end
    return due, all - due, oldest
end

-- Rows of queue, waiting, delayed, running, dead, microseconds since the oldest is due.
function operations.depths()
    local rows = {}
    for _, queue in ipairs(queues()) do
        local waiting, delayed, oldest = 0, 0, false
        for priority = 1, 10 do
            local due, later, since = count_slot(request.namespace .. '|' .. queue .. '|' .. priority)
            waiting, delayed = waiting + due, delayed + later
            if since and (not oldest or since < oldest) then oldest = since end
        end
        local running = call('ZCARD', zset('running', request.namespace, queue))
        local dead = call('ZCARD', zset('letters', request.namespace, queue))
        if waiting + delayed + running + dead > 0 then
            rows[#rows + 1] = { queue, waiting, delayed, running, dead, text(oldest and now - oldest or 0) }
        else
            call('SREM', set('queues', request.namespace), queue)
        end
    end
    return rows
end

-- At most `limit` ids of an index after `after`, of those that `wanted` takes.
local function ids_after(index, wanted)
    local found, from = {}, request.after and '(' .. request.after or '-'
    while #found < request.limit do
        local ids = call('ZRANGE', index, from, '+', 'BYLEX', 'LIMIT', 0, request.limit + 100)
        if #ids == 0 then break end
        for _, id in ipairs(ids) do
            if #found < request.limit and wanted(id) then found[#found + 1] = id end
        end
        from = '(' .. ids[#ids]
    end
    return found
end

-- Whether it can be shown: else it would take a place on the page, and who turns pages would end there.
local function can_be_shown(id)
    local record = record_of(id)
    return record and not record.is_broken and record.namespace == request.namespace
end

-- The first `limit` messages by id in the indexes of the queues.
local function page(kind, wanted_in, with_body)
    local ids, rows = {}, {}
    for _, queue in ipairs(request.queue and { request.queue } or queues()) do
        for _, id in ipairs(ids_after(zset(kind, request.namespace, queue), wanted_in(queue))) do ids[#ids + 1] = id end
    end
    table.sort(ids)
    for at = 1, math.min(#ids, request.limit) do add_row(rows, ids[at], with_body) end
    return rows
end

-- queue (false: all), state (waiting, running, or false: both), limit, after (an id, or false): messages by id.
function operations.browse()
    local function wanted_in(queue)
        if request.state ~= 'waiting' then return can_be_shown end
        local running = zset('running', request.namespace, queue)
        return function(id) return not call('ZSCORE', running, id) and can_be_shown(id) end
    end
    return page(request.state == 'running' and 'running' or 'live', wanted_in, true)
end

-- queue, limit, after: dead letters by id, with their arguments.
function operations.dead()
    return page('letters', function() return can_be_shown end, true)
end

return serve()
