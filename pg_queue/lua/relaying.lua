-- script: flags=allow-oom; parts=base
-- request: namespace, seed, and what each operation says

-- The events that are due in a topic, oldest first, as pairs of member and instant.
local function due_in(topic)
    return call('ZRANGE', zset('relay', request.namespace, topic), '-inf', now, 'BYSCORE', 'LIMIT', 0, request.limit,
        'WITHSCORES')
end

local function drop(topic, member, id)
    call('ZREM', zset('relay', request.namespace, topic), member)
    call('ZREM', zset('events', request.namespace, topic), member)
    call('SREM', set('failing', request.namespace, topic), member)
    call('DEL', key('event', id))
end

-- topics, limit, lease: rows of id, topic, payload, key, created_at, attempts, error, token.
function operations.lease()
    local found, seen = {}, {}
    for _, topic in ipairs(request.topics) do
        local due = seen[topic] and {} or due_in(topic)
        seen[topic] = true
        for at = 1, #due, 2 do found[#found + 1] = { topic, due[at], tonumber(due[at + 1]) } end
    end
    table.sort(found, function(one, other)
        if one[3] ~= other[3] then return one[3] < other[3] end
        return one[2] < other[2]
    end)
    local rows = {}
    for _, where in ipairs(found) do
        if #rows >= request.limit then break end
        local topic, member = where[1], where[2]
        local id = member:sub(17)
        local event = hash(key('event', id))
        if event and event.payload and event.created_at and event.member == member then
            local token, attempts = new_token(), text((tonumber(event.attempts) or 0) + 1)
            call('HSET', key('event', id), 'token', token, 'attempts', attempts)
            call('ZADD', zset('relay', request.namespace, topic), now + request.lease, member)
            rows[#rows + 1] = { id, topic, event.payload, event.key or id, event.created_at, attempts, event.error or '', token }
        else
            drop(topic, member, id)
        end
    end
    return rows
end

-- The event that this token holds, nil where it holds none.
local function held(id, token)
    local event = hash(key('event', id))
    if event and event.token == token and event.namespace == request.namespace and event.member then return event end
    return nil
end

-- leases (pairs of id and token): the ids whose token held.
function operations.confirm()
    local ids = {}
    for _, pair in ipairs(request.leases) do
        local event = held(pair[1], pair[2])
        if event then
            drop(event.topic, event.member, pair[1])
            ids[#ids + 1] = pair[1]
        end
    end
    return ids
end

-- leases, delay, error: the same.
function operations.defer()
    local ids = {}
    for _, pair in ipairs(request.leases) do
        local event = held(pair[1], pair[2])
        if event then
            call('HSET', key('event', pair[1]), 'error', request.error)
            call('HDEL', key('event', pair[1]), 'token')
            call('ZADD', zset('relay', request.namespace, event.topic), now + request.delay, event.member)
            call('SADD', set('failing', request.namespace, event.topic), event.member)
            ids[#ids + 1] = pair[1]
        end
    end
    return ids
end

-- The event of this id, nil where this namespace has none.
local function own(id)
    local event = hash(key('event', id))
    local is_own = event and event.namespace == request.namespace and event.topic and event.member and event.payload
    return is_own and event or nil
end

-- ids: rows of id, topic, payload, key, created_at, attempts, error.
function operations.get()
    local rows = {}
    for _, id in ipairs(request.ids) do
        local event = own(id)
        if event then
            rows[#rows + 1] = { id, event.topic, event.payload, event.key or id, event.created_at or '0',
                event.attempts or '0', event.error or '' }
        end
    end
    return rows
end

-- ids: those of events that were there.
function operations.drop()
    local dropped = {}
    for _, id in ipairs(request.ids) do
        local event = own(id)
        if event then
            drop(event.topic, event.member, id)
            dropped[#dropped + 1] = id
        end
    end
    return dropped
end

-- Rows of topic, how many wait, how many were put off, age of the oldest in microseconds.
function operations.backlog()
    local rows, topics = {}, call('SMEMBERS', set('topics', request.namespace))
    table.sort(topics)
    for _, topic in ipairs(topics) do
        local events = zset('events', request.namespace, topic)
        local oldest = call('ZRANGE', events, 0, 0, 'WITHSCORES')
        if oldest[1] then
            local failing = call('SCARD', set('failing', request.namespace, topic))
            rows[#rows + 1] = { topic, call('ZCARD', events), failing, text(math.max(0, now - oldest[2])) }
        else
            call('SREM', set('topics', request.namespace), topic)
        end
    end
    return rows
end

return serve()
