#!lua
-- Keep outcomes; one of an earlier execution of the message, or the same once more, changes nothing.
-- KEYS: the results by completion, the results by expiry, then each result.
-- ARGV: for each result its id, namespace, state, value, error (empty: none), attempts, when its execution began
-- (microseconds), milliseconds to live (0: for ever). Returns how many were kept.
-- Refused as a whole while Redis is full: without the first line only a script that has not written yet would be.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = 0
for at = 3, #KEYS do
    local key, first = KEYS[at], (at - 3) * 8
    local id, started_at, ttl = ARGV[first + 1], tonumber(ARGV[first + 7]), tonumber(ARGV[first + 8])
    local before = redis.call('HGET', key, 'started_at')
    if not before or started_at > tonumber(before) then
        redis.call('DEL', key)
        redis.call('HSET', key, 'namespace', ARGV[first + 2], 'state', ARGV[first + 3], 'value', ARGV[first + 4],
            'error', ARGV[first + 5], 'attempts', ARGV[first + 6], 'started_at', ARGV[first + 7],
            'finished_at', string.format('%.0f', now))
        redis.call('ZADD', KEYS[1], string.format('%.0f', now), id)
        redis.call('ZREM', KEYS[2], id)
        if ttl > 0 then
            local expires_at = string.format('%.0f', math.floor(now / 1000) + ttl)
            redis.call('PEXPIREAT', key, expires_at)
            redis.call('ZADD', KEYS[2], expires_at, id)
        end
        kept = kept + 1
    end
end
return kept
