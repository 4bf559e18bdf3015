-- script: flags=; parts=base
-- request: namespace, name, interval (microseconds, a fraction of one counts), and what each operation says
--
-- A bucket is a hash `limit:<ns>|<name>` with the instant at which it is full again.

local where = key('limit', request.namespace, request.name)

local function full_at()
    local bucket = hash(where)
    return bucket and tonumber(bucket.full_at) or now
end

-- wanted, burst, rounding: how many were taken, and the microseconds until there is another. As `RateLimit.spend`.
function operations.take()
    local begun = math.max(full_at(), now)
    local given = math.floor(request.burst - (begun - now) / request.interval + request.rounding)
    given = math.max(0, math.min(request.wanted, given))
    local full = begun + math.ceil(given * request.interval)
    if given > 0 then
        sound(where, 'hash')
        call('HSET', where, 'full_at', text(full))
    end
    return { given, text(math.max(0, full - now - (request.burst - 1) * request.interval)) }
end

-- count: tokens that were not used.
function operations.give_back()
    local bucket = hash(where)
    if bucket then call('HSET', where, 'full_at', text(full_at() - math.floor(request.count * request.interval))) end
    return 0
end

return serve()
