-- script: flags=allow-oom; parts=base records storing ends claiming
-- request: namespace, seed, queues, limit, lease, worker, aging, result_ttl, weights, default_weight, caps, default_cap

-- Messages that are moved by one command.
local AT_ONCE = 500
-- Organizations that one draw looks at. Of more, each is as likely to be looked at as any other.
local WINDOW = 128
-- Every so many claims, what has waited for too long comes first.
local AGED_EVERY = 16

math.randomseed(tonumber(request.seed:sub(1, 7), 16))
local lease_until = text(now + request.lease)
local claimed = {}

-- Hold a message that has left the line, unless it cannot be read: then it is buried, or gone.
local function hold(slot, organization, member)
    local id = id_in(member)
    local record = record_of(id)
    local is_here = record and not record.is_broken and record.state == 'waiting' and member_of(record) == member
        and slot_of(record) == slot and record.organization == organization
    if not is_here then
        if not record or record.is_broken then bury_unreadable(id, record, slot, organization) end
        return false
    end
    if record.progress then
        call('HDEL', key('message', id), 'progress', 'progress_at')
        record.progress = nil
    end
    record.state, record.token, record.worker = 'running', new_token(), request.worker
    record.attempts, record.started_at, record.lease_until = text(record.attempts + 1), text(now), lease_until
    call('HSET', key('message', id), 'state', 'running', 'token', record.token, 'worker', record.worker, 'attempts',
        record.attempts, 'started_at', record.started_at, 'lease_until', lease_until)
    return record
end

-- Claim at most `limit` due messages of one organization in a slot; returns how many.
local function take(slot, organization, limit)
    local waiting, taken = zset('waiting', slot, organization), 0
    limit = math.min(limit, room_of(slot, organization))
    while taken < limit do
        local members = call('ZRANGE', waiting, '-inf', now, 'BYSCORE', 'LIMIT', 0, math.min(limit - taken, AT_ONCE))
        if #members == 0 then break end
        call('ZREM', waiting, unpack(members))
        local held = {}
        for _, member in ipairs(members) do held[#held + 1] = hold(slot, organization, member) or nil end
        if #held > 0 then begin_running(held, lease_until) end
        for _, record in ipairs(held) do claimed[#claimed + 1] = record end
        taken = taken + #held
    end
    touch(slot, organization)
    return taken
end

-- Give `wanted` places to the organizations of `pool` by weight, each draw of its own chance: by systematic sampling,
-- whose expectation is the exact share. What one does not use goes to the others. Returns how many were claimed.
local function share(slot, pool, wanted)
    local taken = 0
    while taken < wanted and #pool > 0 do
        local total, places, left = 0, wanted - taken, {}
        for _, one in ipairs(pool) do total = total + one.weight end
        local reached, at = 0, math.random()
        for _, one in ipairs(pool) do
            local before = math.ceil(reached - at)
            reached = reached + places * one.weight / total
            local quota = math.ceil(math.min(reached, places) - at) - before
            local got = quota > 0 and take(slot, one.organization, quota) or 0
            taken = taken + got
            if got == quota then left[#left + 1] = one end
        end
        pool = left
    end
    return taken
end

-- Claim at most `limit` due messages of one slot; returns how many.
local function draw(slot, limit)
    local index = zset('organizations', slot)
    local due = call('ZCOUNT', index, '-inf', now)
    if due == 0 then return 0 end
    if due == 1 then return take(slot, call('ZRANGE', index, 0, 0)[1], limit) end
    local start, taken = due > WINDOW and math.random(0, due - 1) or 0, 0
    for pool in windows(index, due, start) do
        taken = taken + share(slot, pool, limit - taken)
        if taken >= limit then break end
    end
    return taken
end

local function in_order(one, other)
    local due, other_due = tonumber(one.run_after), tonumber(other.run_after)
    if due ~= other_due then return due < other_due end
    return tonumber(one.sequence) < tonumber(other.sequence)
end

-- Rows for what was claimed since `from`, in the order of becoming due.
local function add_rows(rows, from)
    local part = {}
    for at = from, #claimed do part[#part + 1] = claimed[at] end
    table.sort(part, in_order)
    for _, record in ipairs(part) do rows[#rows + 1] = row_of(record) end
end

local function claim_aged(slots, rows)
    local oldest = now - request.aging
    while #claimed < request.limit do
        local slot, organization = oldest_of(slots, oldest)
        if not slot then break end
        take(slot, organization, 1)
        refresh(slot, organization)
    end
    add_rows(rows, 1)
end

function operations.claim()
    local counter, rows = sound(key('claims', request.namespace), 'string'), {}
    local count = tonumber(call('GET', counter) or 0) or 0
    local slots = slots_of(request.queues)
    if count % AGED_EVERY == AGED_EVERY - 1 then claim_aged(slots, rows) end
    for _, slot in ipairs(slots) do
        if #claimed >= request.limit then break end
        local from = #claimed + 1
        draw(slot, request.limit - #claimed)
        add_rows(rows, from)
    end
    if #claimed > 0 then call('SET', counter, text(count + 1)) end
    finish_up()
    return rows
end

-- Microseconds until a message of these queues is due, which no cap keeps back; false: there is none.
function operations.next_due()
    local soonest = false
    for _, slot in ipairs(slots_of(request.queues)) do
        local score = soonest_of(slot)
        if score and (not soonest or score < soonest) then soonest = score end
    end
    return soonest and text(math.max(0, soonest - now))
end

return serve()
