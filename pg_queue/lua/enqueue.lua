-- script: flags=; parts=base records storing
-- request: namespace, seed, parcels

-- The ids of the messages in order, after the id that lives already: with one of those, nothing was stored.
function operations.enqueue()
    local planned, taken = plan(request.namespace, request.parcels)
    if not planned then return { taken } end
    carry_out(request.namespace, request.parcels, planned)
    finish_up()
    local ids = { '' }
    for at, one in ipairs(planned) do ids[at + 1] = one[1] end
    return ids
end

return serve()
