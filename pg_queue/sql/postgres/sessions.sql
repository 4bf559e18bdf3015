-- name: ping
-- Does the server answer?
SELECT 1

-- name: set
-- Set a parameter for the session.
SELECT set_config(%(name)s, %(value)s, false)

-- name: assume_role
-- Act as another role from now on. The name is an identifier, which cannot be a parameter.
SET ROLE {role}

-- name: server_pid
-- The process that serves this session, as the server itself says.
SELECT pg_backend_pid()
