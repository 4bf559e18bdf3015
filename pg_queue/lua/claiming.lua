-- Which messages are next: queues that are on, organizations by weight, and their caps.

-- The slots of these queues that are on: queues as given, then the higher priority.
local function slots_of(queues)
    local slots = {}
    local switches = redis.pcall('HMGET', key('switches', request.namespace), '', unpack(queues))
    local function is_off(at)
        local value = not switches.err and switches[at]
        return value and value:sub(1, 1) == '0'
    end
    if is_off(1) then return slots end
    for at, queue in ipairs(queues) do
        if not is_off(at + 1) then
            for priority = 10, 1, -1 do
                slots[#slots + 1] = request.namespace .. '|' .. queue .. '|' .. priority
            end
        end
    end
    return slots
end

local function weight_of(organization)
    return request.weights[organization] or request.default_weight
end

-- How many more of an organization's messages may run.
local function room_of(slot, organization)
    local cap = request.caps[organization] or request.default_cap
    if not cap or organization == '' then return 1e15 end
    return math.max(0, cap - call('SCARD', set('held', request.namespace, organization)))
end

-- The organizations with due messages, in pools of those to draw from: the first holds all that have a weight of their
-- own, and so many of the others, beginning with number `start`, that each of them has the same chance to be there; they
-- stand for all others, so their weights are scaled.
local function windows(index, due, start)
    local size, seen = 128, 0
    return function()
        if seen >= due then return nil end
        local pool, is_first = {}, seen == 0
        local count = math.min(size, due - seen)
        local from = (start + seen) % due
        local names = call('ZRANGE', index, from, math.min(from + count, due) - 1)
        local rest = #names < count and call('ZRANGE', index, 0, count - #names - 1) or {}
        for _, organization in ipairs(rest) do names[#names + 1] = organization end
        seen = seen + count
        local own = 0
        for _, organization in ipairs(names) do
            if due <= size or not request.weights[organization] then
                pool[#pool + 1] = { organization = organization, weight = weight_of(organization) }
            end
        end
        if is_first and due > size then
            local others = #pool
            for organization, weight in pairs(request.weights) do
                local score = call('ZSCORE', index, organization)
                if score and tonumber(score) <= now then
                    own = own + 1
                    pool[#pool + 1] = { organization = organization, weight = weight }
                end
            end
            for at = 1, others do pool[at].weight = pool[at].weight * (due - own) / others end
        end
        return pool
    end
end

-- Where the message is that has been due for longest, among those due since `oldest` or longer and not kept back by a
-- cap: its slot and organization; nil where there is none.
local function oldest_of(slots, oldest)
    local best, best_slot, best_organization
    for _, slot in ipairs(slots) do
        local heads = call('ZRANGE', zset('organizations', slot), '-inf', oldest, 'BYSCORE', 'LIMIT', 0, 128, 'WITHSCORES')
        for at = 1, #heads, 2 do
            local score = tonumber(heads[at + 1])
            if best and score >= best then break end
            if room_of(slot, heads[at]) > 0 then
                best, best_slot, best_organization = score, slot, heads[at]
                break
            end
        end
    end
    return best_slot, best_organization
end

-- When the next message of a slot is due that no cap keeps back; nil: none.
local function soonest_of(slot)
    local heads = call('ZRANGE', zset('organizations', slot), 0, 127, 'WITHSCORES')
    for at = 1, #heads, 2 do
        if room_of(slot, heads[at]) > 0 then return tonumber(heads[at + 1]) end
    end
    return nil
end

-- What cannot be read, because no operation has written it, becomes a dead letter as far as it can be told what it is.
local function bury_unreadable(id, record, slot, organization)
    local where = key('message', id)
    if not record and call('EXISTS', where) == 0 then return end
    local namespace, queue, priority = slot:match('^(.*)|(.*)|(%d+)$')
    if not record then
        call('RENAME', where, prefix .. ':broken:' .. where)
        record = { id = id }
    end
    local sane = { namespace = namespace, queue = queue, priority = priority, organization = organization, state = 'waiting',
        attempts = '0', max_attempts = '1', run_after = text(now), sequence = '0' }
    for name, value in pairs(sane) do
        record[name] = value
        call('HSET', where, name, value)
    end
    record.report_to, record.key, record.barrier = nil, nil, nil
    call('HSETNX', where, 'task', '')
    call('HSETNX', where, 'enqueued_at', text(now))
    bury(record, failure_of('message.unreadable', 'no operation has written it'), request.result_ttl)
end
