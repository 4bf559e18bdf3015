-- script: flags=; parts=base publishing
-- request: namespace, seed, and what each operation says

-- events: the ids of those that were published, after the id that is there already: then nothing was.
function operations.publish()
    local seen = {}
    for _, event in ipairs(request.events) do
        local id = event[1]
        if id and (seen[id] or call('EXISTS', key('event', id)) == 1) then return { id } end
        if id then seen[id] = true end
    end
    local ids = publish(request.namespace, request.events)
    table.insert(ids, 1, '')
    return ids
end

return serve()
