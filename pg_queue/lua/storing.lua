-- Storing messages. A parcel is a new message as `pg_queue.storage.redis.encoding.parcel` writes it.

local ID, QUEUE, PRIORITY, RUN_AFTER, ORGANIZATION, REPORT_TO, MAX_ATTEMPTS = 1, 2, 3, 4, 5, 6, 7
local TASK, HEADERS, KEY, KEY_TTL, BODY, ON_SUCCESS, ON_FAILURE = 8, 9, 10, 11, 12, 13, 14

-- The id of the message that holds an idempotency key; nil: none does.
local function holder_of(namespace, name)
    local record = hash(key('key', namespace, name))
    if not record or not record.message then return nil end
    if record.expires_at and (tonumber(record.expires_at) or 0) <= now then return nil end
    return record.message
end

local function take_key(namespace, name, id, ttl)
    local where = key('key', namespace, name)
    call('DEL', where)
    call('HSET', where, 'message', id, 'ttl', ttl)
    call('ZREM', zset('keys'), namespace .. '|' .. name)
end

-- The message waits again: it holds its key, unless another one does by now.
local function resume_key(record)
    local holder, held = holder_of(record.namespace, record.key), hash(key('key', record.namespace, record.key))
    if holder and holder ~= record.id then return end
    local ttl = held and held.message == record.id and held.ttl or text(request.key_ttl)
    take_key(record.namespace, record.key, record.id, ttl)
end

-- The message has ended: its key holds for its time to live yet.
local function let_key_run_out(record)
    local where = key('key', record.namespace, record.key)
    local held = hash(where)
    if not held or held.message ~= record.id then return end
    local ttl = tonumber(held.ttl) or 0
    if ttl <= 0 then
        call('DEL', where)
    else
        call('HSET', where, 'expires_at', text(now + ttl))
        call('ZADD', zset('keys'), now + ttl, record.namespace .. '|' .. record.key)
    end
end

local function is_live(id)
    local state = redis.pcall('HGET', key('message', id), 'state')
    return state == 'waiting' or state == 'running'
end

-- Whatever an ended message, or somebody's hand, has left under this id.
local function clear_the_way(id)
    if call('EXISTS', key('message', id), key('body', id), key('follow', id)) == 0 then return end
    local record = record_of(id)
    if record and not record.is_broken then forget_letter(record) end
    forget_result(id)
end

local function write(namespace, parcel, id, sequence, barrier)
    local run_after = parcel[RUN_AFTER] and tonumber(parcel[RUN_AFTER]) > now and parcel[RUN_AFTER] or text(now)
    local record = {
        id = id, namespace = namespace, queue = parcel[QUEUE], priority = parcel[PRIORITY], run_after = run_after,
        organization = parcel[ORGANIZATION], sequence = sequence,
    }
    local fields = {
        'namespace', namespace, 'queue', parcel[QUEUE], 'priority', string.format('%d', parcel[PRIORITY]),
        'organization', parcel[ORGANIZATION], 'task', parcel[TASK], 'state', 'waiting', 'attempts', '0',
        'max_attempts', string.format('%d', parcel[MAX_ATTEMPTS]), 'run_after', run_after, 'enqueued_at', text(now),
        'sequence', text(sequence),
    }
    local function add(name, value)
        if value then
            fields[#fields + 1], fields[#fields + 2] = name, value
        end
    end
    add('headers', parcel[HEADERS])
    add('report_to', parcel[REPORT_TO])
    add('key', parcel[KEY])
    add('barrier', barrier)
    call('HSET', key('message', id), unpack(fields))
    call('SET', key('body', id), parcel[BODY])
    if parcel[ON_SUCCESS] or parcel[ON_FAILURE] then
        call('SET', key('follow', id), cjson.encode({ parcel[ON_SUCCESS], parcel[ON_FAILURE] }))
    end
    call('ZADD', zset('live', namespace, record.queue), 0, id)
    stand_in_line(record)
end

-- Which message each parcel is: a new one, or the one that holds its key. Writes nothing.
-- Returns a list of { id, is_new }; or nil and the id of a message that waits or runs already.
local function plan(namespace, parcels)
    local planned, keys, ids = {}, {}, {}
    for at, parcel in ipairs(parcels) do
        local name = parcel[KEY]
        local holder = name and (keys[name] or holder_of(namespace, name))
        local id = holder or parcel[ID] or new_id()
        if not holder and (ids[id] or is_live(id)) then return nil, id end
        if name then keys[name] = id end
        ids[id] = true
        planned[at] = { id, not holder }
    end
    return planned
end

local function carry_out(namespace, parcels, planned, barrier)
    local first = call('INCRBY', sound(key('sequence'), 'string'), #parcels) - #parcels
    local queues = {}
    for at, parcel in ipairs(parcels) do
        local id, is_new = planned[at][1], planned[at][2]
        if is_new then
            clear_the_way(id)
            write(namespace, parcel, id, first + at, barrier)
            if parcel[KEY] then take_key(namespace, parcel[KEY], id, parcel[KEY_TTL]) end
            queues[parcel[QUEUE]] = true
        end
    end
    for queue in pairs(queues) do call('SADD', set('queues', namespace), queue) end
end

-- What an end enqueues. An id that lives already is not enqueued again: the end must not fail by it.
local function store_each(namespace, parcels)
    for _, parcel in ipairs(parcels) do
        local planned = plan(namespace, { parcel })
        if planned then carry_out(namespace, { parcel }, planned) end
    end
end
