#!lua flags=allow-oom
-- Delete results by id. KEYS: by completion, by expiry. ARGV: what keys of results begin with, then the ids.
-- Returns how many were there; what had expired was not.
local deleted = 0
for at = 2, #ARGV do
    deleted = deleted + redis.call('DEL', ARGV[1] .. ARGV[at])
    redis.call('ZREM', KEYS[1], ARGV[at])
    redis.call('ZREM', KEYS[2], ARGV[at])
end
return deleted
