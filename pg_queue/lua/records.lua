-- A message is a hash `message:<id>` from its enqueueing until its result has outlived its time, with its arguments in
-- `body:<id>` while it can still run, and its continuations in `follow:<id>`. Where it stands is in these, per namespace:
--   waiting:<ns>|<queue>|<priority>|<organization>   by the instant at which it is due, then in order of arrival
--   organizations:<ns>|<queue>|<priority>            organizations, by the instant at which their next message is due
--   live:<ns>|<queue>, running:<ns>|<queue>          what waits or runs, what runs: by id
--   held:<ns>|<organization>                         what runs of an organization that has a name
--   queues:<ns>                                      the names of queues
-- and `leases:` of all namespaces by the end of the lease. Delayed messages are in `waiting`, beyond what is due.

local SHOWN = {
    'id', 'task', 'queue', 'priority', 'state', 'attempts', 'max_attempts', 'run_after', 'enqueued_at', 'started_at',
    'finished_at', 'headers', 'organization', 'report_to', 'worker', 'result', 'error', 'key', 'barrier', 'body', 'token',
    'lease_until', 'progress', 'progress_at',
}
local NUMBERS = { 'priority', 'attempts', 'max_attempts', 'run_after', 'sequence' }

-- The record of an id, nil where there is none. One that no operation has written is `is_broken`.
local function record_of(id)
    local record = hash(key('message', id))
    if not record then return nil end
    record.id = id
    record.is_broken = not (record.namespace and record.queue and record.organization and record.state)
    for _, name in ipairs(NUMBERS) do
        local value = record[name] or ''
        record.is_broken = record.is_broken or #value > 18 or not value:match('^%d+$')
    end
    return record
end

local function body_of(id)
    local body = redis.pcall('GET', key('body', id))
    return type(body) == 'string' and body or false
end

-- The record as `pg_queue.storage.redis.encoding` reads it.
local function row_of(record)
    if record.state == 'waiting' or record.state == 'running' then record.body = body_of(record.id) end
    if record.taken then record.report_to = nil end
    local row = {}
    for at, name in ipairs(SHOWN) do row[at] = record[name] or false end
    return row
end

local function member_of(record)
    return string.format('%016.0f', record.sequence) .. record.id
end

local function id_in(member)
    return member:sub(17)
end

local function slot_of(record)
    return record.namespace .. '|' .. record.queue .. '|' .. string.format('%d', record.priority)
end

local touched, woken = {}, {}

-- What waits in this slot for this organization has changed: `finish_up` says so to its index.
local function touch(slot, organization)
    touched[slot .. '|' .. organization] = { slot, organization }
end

local function wake(namespace, queue)
    woken[namespace .. '|' .. queue] = { namespace, queue }
end

-- Keep the organization's place in the index of its slot true.
local function refresh(slot, organization)
    local index = zset('organizations', slot)
    local first = call('ZRANGE', zset('waiting', slot, organization), 0, 0, 'WITHSCORES')
    if first[1] then
        call('ZADD', index, first[2], organization)
    else
        call('ZREM', index, organization)
    end
end

-- To be called at the end of each script that moved messages: once per slot and queue, however many were moved.
local function finish_up()
    for _, where in pairs(touched) do refresh(where[1], where[2]) end
    for _, where in pairs(woken) do call('PUBLISH', prefix .. ':wake:' .. where[1], where[2]) end
end

local function stand_in_line(record)
    local slot = slot_of(record)
    call('ZADD', zset('waiting', slot, record.organization), record.run_after, member_of(record))
    touch(slot, record.organization)
    if tonumber(record.run_after) <= now then wake(record.namespace, record.queue) end
end

local function leave_the_line(record)
    local slot = slot_of(record)
    call('ZREM', zset('waiting', slot, record.organization), member_of(record))
    touch(slot, record.organization)
end

-- Records of one slot and organization, so many that `unpack` can take them.
local function begin_running(records, lease_until)
    local leases, running, ids, first = {}, {}, {}, records[1]
    for at, record in ipairs(records) do
        leases[2 * at - 1], leases[2 * at] = lease_until, record.id
        running[2 * at - 1], running[2 * at] = 0, record.id
        ids[at] = record.id
    end
    call('ZADD', zset('leases'), unpack(leases))
    call('ZADD', zset('running', first.namespace, first.queue), unpack(running))
    if first.organization ~= '' then call('SADD', set('held', first.namespace, first.organization), unpack(ids)) end
end

local function stop_running(record)
    call('ZREM', zset('leases'), record.id)
    call('ZREM', zset('running', record.namespace, record.queue), record.id)
    if record.organization ~= '' then
        call('SREM', set('held', record.namespace, record.organization), record.id)
    end
end

-- Let a running record wait again, with these fields set.
local function wait_again(record, fields)
    stop_running(record)
    call('HSET', key('message', record.id), 'state', 'waiting', unpack(fields))
    call('HDEL', key('message', record.id), 'token', 'worker', 'lease_until')
    stand_in_line(record)
end

-- The record that this token holds; nil where it holds none.
local function held_by(id, token)
    local record = record_of(id)
    if record and not record.is_broken and record.state == 'running' and record.token == token then return record end
    return nil
end

-- An outcome's time has come: the record goes, unless it is a dead letter too.
local function forget_result(id)
    local record = record_of(id)
    call('ZREM', zset('expiring'), id)
    if record then
        call('ZREM', zset('finished', record.namespace or ''), id)
        if record.report_to then call('ZREM', zset('reports', record.namespace or '', record.report_to), id) end
    end
    if call('ZSCORE', zset('dead'), id) and record then
        call('HSET', key('message', id), 'is_forgotten', '1')
    else
        call('DEL', key('message', id), key('body', id), key('follow', id))
    end
end

-- A dead letter's time has come, or it waits again: what could be replayed goes, the outcome stays for its own time.
local function forget_letter(record, is_kept)
    call('ZREM', zset('dead'), record.id)
    call('ZREM', zset('letters', record.namespace, record.queue), record.id)
    if is_kept then return end
    call('DEL', key('body', record.id), key('follow', record.id))
    if record.is_forgotten then call('DEL', key('message', record.id)) end
end
