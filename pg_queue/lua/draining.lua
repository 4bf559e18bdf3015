-- Messages of kombu's Redis transport, moved between a queue's lists and what is unacknowledged as kombu keeps both, so
-- that a worker of Celery's, too, restores what was taken. Not a part of the Redis store: a script of its own, called
-- with EVAL. Kombu itself takes a message and notes it in two steps; killed between them, it loses the message.
--
-- KEYS: the hash of what is unacknowledged, its index by time, the lists of the queue in the order of priority
-- ARGV: take | give_back; the queue's name; then the rest of what that needs

local call = redis.call

-- ARGV: limit, bytes, now (seconds). Takes the oldest, at most so many, and none after so many bytes. Answers two lists:
-- what was taken, each as {list, tag, message}; and what no worker could read, which stays where it is, as
-- {list, message}.
-- The note says that the message goes back to this very queue, whatever exchange it has come by.
local function take(queue, limit, most_bytes, now)
    local taken, unreadable, bytes = {}, {}, 0
    for place = 3, #KEYS do
        local list, skipped = KEYS[place], 0
        while #taken < limit and bytes < most_bytes do
            local message = call('LINDEX', list, -1 - skipped)
            if not message then break end
            local is_json, decoded = pcall(cjson.decode, message)
            local properties = is_json and type(decoded) == 'table' and decoded.properties
            local tag = type(properties) == 'table' and properties.delivery_tag
            if type(tag) == 'string' and type(decoded.body) == 'string' then
                call('LREM', list, -1, message)
                call('ZADD', KEYS[2], now, tag)
                call('HSET', KEYS[1], tag, '[' .. message .. ',"",' .. cjson.encode(queue) .. ']')
                bytes = bytes + #message
                taken[#taken + 1] = { list, tag, message }
            else
                skipped = skipped + 1
                unreadable[#unreadable + 1] = { list, message }
            end
        end
    end
    return { taken, unreadable }
end

-- ARGV: tag, message, tag, message, … Puts them back where they were taken from, unless somebody else has done so.
local function give_back()
    for place = #ARGV - 1, 3, -2 do
        local tag, message = ARGV[place], ARGV[place + 1]
        if call('HDEL', KEYS[1], tag) == 1 then
            call('ZREM', KEYS[2], tag)
            call('RPUSH', KEYS[3], message)
        end
    end
    return 0
end

if ARGV[1] == 'take' then return take(ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]) end
return give_back()
