-- script: flags=; parts=base
-- request: namespace, name, and what each operation says
--
-- A lock is a hash `lock:<ns>|<name>`, and in `locks` of all namespaces by its expiry. Without expiry of Redis's own: some
-- policies of eviction delete what has one.

local where, member = key('lock', request.namespace, request.name), request.namespace .. '|' .. request.name

-- The owner, while the lock holds.
local function owner()
    local lock = hash(where)
    local expires_at = lock and tonumber(lock.expires_at)
    return expires_at and expires_at > now and lock.owner or nil
end

local function hold(who)
    call('DEL', where)
    call('HSET', where, 'owner', who, 'expires_at', text(now + request.ttl))
    call('ZADD', zset('locks'), now + request.ttl, member)
end

-- owner, ttl: 1 if the lock is this owner's now. Sweeps a few that have expired, so that they do not pile up.
function operations.acquire()
    for _, name in ipairs(call('ZRANGE', zset('locks'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 10)) do
        call('ZREM', zset('locks'), name)
        call('DEL', key('lock', name))
    end
    if owner() then return 0 end
    hold(request.owner)
    return 1
end

-- owner, ttl: 1 if it held still.
function operations.extend()
    if owner() ~= request.owner then return 0 end
    hold(request.owner)
    return 1
end

-- owner: 1 if it held still.
function operations.release()
    if owner() ~= request.owner then return 0 end
    call('DEL', where)
    call('ZREM', zset('locks'), member)
    return 1
end

return serve()
