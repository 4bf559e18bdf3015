-- script: flags=allow-oom; parts=base
-- request: namespace, and what each operation says
--
-- `switches:<ns>` holds, by queue (the empty name: all), a text: 1 or 0, the instant, and a JSON
-- list of who turned it and why.

-- queue ('' for all), is_on, by, reason: the switch's text.
function operations.turn()
    local where = sound(key('switches', request.namespace), 'hash')
    local value = (request.is_on and '1' or '0') .. text(now) .. cjson.encode({ request.by, request.reason })
    call('HSET', where, request.queue, value)
    if request.is_on then
        local names = request.queue ~= '' and { request.queue } or call('SMEMBERS', set('queues', request.namespace))
        for _, queue in ipairs(names) do call('PUBLISH', prefix .. ':wake:' .. request.namespace, queue) end
    end
    return value
end

-- Names and texts in turn.
function operations.list()
    return call('HGETALL', sound(key('switches', request.namespace), 'hash'))
end

return serve()
