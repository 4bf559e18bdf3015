-- name: open
-- A chord begins, or begins anew: nothing is counted yet.
WITH old AS (
    DELETE FROM pg_queue_celerychordpart WHERE namespace = %(namespace)s AND group_id = %(group_id)s
)
INSERT INTO pg_queue_celerychord (namespace, group_id, content_type, content_encoding, header, expires_at)
VALUES (
    %(namespace)s, %(group_id)s, %(content_type)s, %(content_encoding)s, %(header)s,
    now() + make_interval(secs => %(ttl)s::double precision)
)
ON CONFLICT (namespace, group_id) DO UPDATE
    SET state = 'open', size = NULL, extra = 0, counted = 0, content_type = EXCLUDED.content_type,
        content_encoding = EXCLUDED.content_encoding, header = EXCLUDED.header, callback = NULL, claim_token = NULL,
        claim_until = NULL, expires_at = EXCLUDED.expires_at

-- name: resize
-- All members are known. One that is done begins anew: its frozen signature was applied once more.
INSERT INTO pg_queue_celerychord AS chord (namespace, group_id, size, expires_at)
VALUES (%(namespace)s, %(group_id)s, %(size)s, now() + make_interval(secs => %(ttl)s::double precision))
ON CONFLICT (namespace, group_id) DO UPDATE
    SET size = EXCLUDED.size,
        state = CASE chord.state WHEN 'done' THEN 'open' ELSE chord.state END,
        counted = CASE chord.state WHEN 'done' THEN 0 ELSE chord.counted END,
        extra = CASE chord.state WHEN 'done' THEN 0 ELSE chord.extra END,
        expires_at = EXCLUDED.expires_at

-- name: extend
-- One more member, while the chord runs.
INSERT INTO pg_queue_celerychord AS chord (namespace, group_id, extra, expires_at)
VALUES (%(namespace)s, %(group_id)s, 1, now() + make_interval(secs => %(ttl)s::double precision))
ON CONFLICT (namespace, group_id) DO UPDATE SET extra = chord.extra + 1

-- name: begin
-- There is such a chord, whoever was first to hear of it.
INSERT INTO pg_queue_celerychord (namespace, group_id, expires_at)
VALUES (%(namespace)s, %(group_id)s, now() + make_interval(secs => %(ttl)s::double precision))
ON CONFLICT DO NOTHING

-- name: lock
-- One member at a time, from here to the commit. Before the statement that counts, which then sees all that is counted.
SELECT 1 FROM pg_queue_celerychord WHERE namespace = %(namespace)s AND group_id = %(group_id)s FOR UPDATE

-- name: count
-- A member has ended: counted once, however often it was executed. A success takes the place of an earlier failure.
-- When all are in, who counts the last one holds the claim to send the callback; and so does who comes when a claim has
-- run out. Answers nothing where there is no such chord or its callback was sent.
WITH chord AS (
    SELECT namespace, group_id, state, claim_until
    FROM pg_queue_celerychord
    WHERE namespace = %(namespace)s AND group_id = %(group_id)s AND state <> 'done'
),
part AS (
    INSERT INTO pg_queue_celerychordpart AS kept (
        namespace, group_id, task_id, position, status, content_type, content_encoding, result, stored_at
    )
    SELECT
        namespace, group_id, %(task_id)s, %(position)s::integer, %(status)s, %(content_type)s, %(content_encoding)s,
        %(result)s, clock_timestamp()
    FROM chord
    ON CONFLICT (namespace, group_id, task_id, position) DO UPDATE
        SET status = EXCLUDED.status, content_type = EXCLUDED.content_type,
            content_encoding = EXCLUDED.content_encoding, result = EXCLUDED.result
        WHERE kept.status <> 'SUCCESS' AND EXCLUDED.status = 'SUCCESS'
    RETURNING (xmax = 0)::integer AS is_new
),
told AS (
    SELECT
        c.namespace, c.group_id, c.counted + n.new AS counted,
        c.counted + n.new >= c.size + c.extra
            AND (c.state = 'open' OR c.claim_until <= clock_timestamp() OR c.claim_token = %(token)s::uuid) AS is_mine
    FROM pg_queue_celerychord AS c
    JOIN chord USING (namespace, group_id)
    CROSS JOIN (SELECT COALESCE(sum(is_new), 0)::integer AS new FROM part) AS n
)
UPDATE pg_queue_celerychord AS c
SET counted = told.counted,
    state = CASE WHEN told.is_mine THEN 'claimed' ELSE c.state END,
    callback = CASE WHEN told.is_mine THEN %(callback)s ELSE c.callback END,
    claim_token = CASE WHEN told.is_mine THEN %(token)s::uuid ELSE c.claim_token END,
    claim_until = CASE
        WHEN told.is_mine THEN clock_timestamp() + make_interval(secs => %(claim)s::double precision)
        ELSE c.claim_until
    END
FROM told
WHERE c.namespace = told.namespace AND c.group_id = told.group_id
RETURNING COALESCE(told.is_mine, false), c.header, c.content_type, c.content_encoding

-- name: parts
-- How the members ended, in the header's order.
SELECT task_id, status, content_type, content_encoding, result
FROM pg_queue_celerychordpart
WHERE namespace = %(namespace)s AND group_id = %(group_id)s
ORDER BY position < 0, position, stored_at

-- name: hold
-- The claim goes on from now, if it is still this one's.
UPDATE pg_queue_celerychord
SET claim_until = clock_timestamp() + make_interval(secs => %(claim)s::double precision)
WHERE namespace = %(namespace)s AND group_id = %(group_id)s AND claim_token = %(token)s
RETURNING 1

-- name: close
-- The callback was sent, or is sent by this transaction. What comes late finds a chord that is done.
WITH closed AS (
    UPDATE pg_queue_celerychord
    SET state = 'done', claim_token = NULL, claim_until = NULL, callback = NULL, header = NULL,
        expires_at = now() + make_interval(secs => %(ttl)s::double precision)
    WHERE namespace = %(namespace)s AND group_id = %(group_id)s AND claim_token = %(token)s
    RETURNING namespace, group_id
),
parts AS (
    DELETE FROM pg_queue_celerychordpart AS part USING closed
    WHERE part.namespace = closed.namespace AND part.group_id = closed.group_id
)
SELECT 1 FROM closed

-- name: take_over
-- Claims that have run out: whoever held them is gone, and the callbacks were perhaps not sent.
WITH stranded AS (
    SELECT namespace, group_id FROM pg_queue_celerychord
    WHERE namespace = %(namespace)s AND state = 'claimed' AND claim_until <= clock_timestamp()
    ORDER BY claim_until
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE pg_queue_celerychord AS c
SET claim_token = %(token)s, claim_until = clock_timestamp() + make_interval(secs => %(claim)s::double precision)
FROM stranded
WHERE c.namespace = stranded.namespace AND c.group_id = stranded.group_id
RETURNING c.group_id, c.callback, c.header, c.content_type, c.content_encoding
