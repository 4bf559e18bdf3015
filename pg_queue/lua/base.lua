-- What every script begins with: the clock, the names of keys, and the serving of one operation.
--
-- ARGV: the operation's name, the prefix of all keys, the request as JSON. Inside a request, texts that belong to others
-- (arguments, results, headers) are strings of JSON: cjson would change their empty lists, large numbers and nulls.
-- Instants are microseconds since 1970 (exact in a double until 2255), in records as text. A missing value is false.

local call = redis.call
local prefix, request = ARGV[2], cjson.decode(ARGV[3])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local operations = {}

local function key(kind, one, two)
    if two then return prefix .. ':' .. kind .. ':' .. one .. '|' .. two end
    return prefix .. ':' .. kind .. ':' .. (one or '')
end

local function text(instant)
    return string.format('%.0f', instant)
end

local checked = {}

-- The name of a structure, free of anything else that was put in its place by hand: a command that fails in the midst of
-- a script would leave half of it done.
local function sound(name, kind)
    if not checked[name] then
        local found = call('TYPE', name).ok
        if found ~= kind and found ~= 'none' then
            call('RENAME', name, prefix .. ':broken:' .. name)
        end
        checked[name] = true
    end
    return name
end

local function zset(kind, one, two) return sound(key(kind, one, two), 'zset') end
local function set(kind, one, two) return sound(key(kind, one, two), 'set') end

-- The fields of a hash as a table; nil where there is none, or something else.
local function hash(name)
    local flat = redis.pcall('HGETALL', name)
    if flat.err or #flat == 0 then return nil end
    local fields = {}
    for at = 1, #flat, 2 do fields[flat[at]] = flat[at + 1] end
    return fields
end

local made = 0

-- 40 hexadecimal digits that nobody can guess who does not know the request's seed: a script has no randomness.
local function digest()
    made = made + 1
    return redis.sha1hex(request.seed .. ':' .. made)
end

local function new_token()
    local digits = digest()
    return digits:sub(1, 12) .. '4' .. digits:sub(14, 16) .. '8' .. digits:sub(18, 32)
end

-- RFC 9562, version 7: the milliseconds of the server's clock first.
local function new_id()
    local digits = digest()
    return string.format('%012x', math.floor(now / 1000)) .. '7' .. digits:sub(1, 3) .. '8' .. digits:sub(4, 18)
end

local function serve()
    return operations[ARGV[1]]()
end
