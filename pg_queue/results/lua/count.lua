#!lua flags=no-writes
-- How many results are kept. KEYS: by completion, by expiry. What has expired is taken off, swept or not.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.call('ZCARD', KEYS[1]) - redis.call('ZCOUNT', KEYS[2], '-inf', '(' .. now)
