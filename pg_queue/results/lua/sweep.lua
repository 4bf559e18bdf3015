#!lua flags=allow-oom
-- Delete the results with the lowest scores of one index. KEYS: by completion, by expiry.
-- ARGV: what keys of results begin with, which index (1 or 2), the highest score ('' for the index by expiry: the
-- present), the most. Returns how many were deleted; one that Redis itself has let expire counts, since its place in the
-- indexes is what is left of it.
local highest = ARGV[3]
if highest == '' then
    local time = redis.call('TIME')
    highest = '(' .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[tonumber(ARGV[2])], '-inf', highest, 'LIMIT', 0, ARGV[4])
for _, id in ipairs(ids) do
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
end
return #ids
