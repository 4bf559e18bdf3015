-- The outbox: an event is a hash `event:<id>`, in `events:<ns>|<topic>` by age, in `relay:<ns>|<topic>` by the instant from
-- which it may be leased, and in the set `failing:<ns>|<topic>` once it was put off. Members are in order of arrival.

-- events: lists of id (false: a new one), topic, key, payload. Returns their ids.
local function publish(namespace, events)
    local ids, first = {}, call('INCRBY', sound(key('sequence'), 'string'), #events) - #events
    for at, event in ipairs(events) do
        local id, topic, name, payload = event[1] or new_id(), event[2], event[3], event[4]
        local member = string.format('%016.0f', first + at) .. id
        call('DEL', key('event', id))
        call('HSET', key('event', id), 'namespace', namespace, 'topic', topic, 'key', name ~= '' and name or id, 'payload',
            payload, 'created_at', text(now), 'attempts', '0', 'error', '', 'member', member)
        call('ZADD', zset('events', namespace, topic), now, member)
        call('ZADD', zset('relay', namespace, topic), now, member)
        call('SADD', set('topics', namespace), topic)
        ids[at] = id
    end
    return ids
end
