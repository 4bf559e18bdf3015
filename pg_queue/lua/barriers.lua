-- script: flags=; parts=base records storing
-- request: namespace, seed, and what each operation says

-- Whether the callback's id is nobody's: it must be the callback's own when the barrier ends.
local function is_free(planned, callback)
    for _, one in ipairs(planned) do
        if one[1] == callback[ID] then return false end
    end
    return not is_live(callback[ID])
end

-- id, parcels, callback, on_abort (parcels, or false), callback_id: the barrier's id if it was made; else the id that is
-- there already, after a text that says of what.
function operations.create()
    local where = key('barrier', request.id)
    if call('EXISTS', where) == 1 then return { 'barrier', request.id } end
    local planned, taken = plan(request.namespace, request.parcels)
    if not planned then return { 'message', taken } end
    local callback = request.callback
    if callback and not is_free(planned, callback) then return { 'message', callback[ID] } end
    local members = {}
    for at, one in ipairs(planned) do members[at] = one[1] end
    local state = #members > 0 and 'open' or 'done'
    call('HSET', where, 'namespace', request.namespace, 'state', state, 'remaining', #members, 'members',
        table.concat(members, ' '), 'callback_id', request.callback_id or '', 'created_at', text(now))
    if callback then call('HSET', where, 'callback', cjson.encode(callback)) end
    if request.on_abort then call('HSET', where, 'on_abort', cjson.encode(request.on_abort)) end
    carry_out(request.namespace, request.parcels, planned, request.id)
    if state == 'done' then
        call('HSET', where, 'ended_at', text(now))
        call('ZADD', zset('barriers'), now, request.id)
        if callback then store_each(request.namespace, { callback }) end
    end
    finish_up()
    return { 'created', request.id }
end

-- ids: rows of the barriers of this namespace.
function operations.get()
    local rows = {}
    for _, id in ipairs(request.ids) do
        local found = hash(key('barrier', id))
        if found and found.namespace == request.namespace and found.state and found.members and found.created_at then
            rows[#rows + 1] = {
                id, found.members, found.remaining or '0', found.state, found.callback_id or '', found.culprit or '',
                found.created_at, found.ended_at or '',
            }
        end
    end
    return rows
end

return serve()
