"""What must happen at once in Redis, as Lua.

Keys: `wps:c:<cid>` connection (hash), `wps:o:<cid>` mailbox (list of `<sequence>:<json>`), `wps:g:<cid>` its groups,
`wps:a:<cid>` ack ids it used; `wps:h:<hub>:all`, `...:g:<group>`, `...:u:<user>` sets of connection ids.
A ring on `wps:n:<node>` is `<cid>` or `<cid>:<sequence>`, several after a space, then a line with what those received.
Every key expires, and a live connection renews its own, sweeping expired neighbours out of the sets it shares with
them; a killed emulator therefore leaks nothing.
"""

_DELIVER = """
-- Returns the node whose doorbell is to be rung, and what it is told: '<cid>:<sequence>', or '<cid>' when full.
local function deliver(cid, message, most, most_bytes, ttl)
  local connection, mailbox = 'wps:c:' .. cid, 'wps:o:' .. cid
  local state = redis.call('HMGET', connection, 'node', 'overflow', 'seq', 'bytes')
  if not state[1] then return nil end
  if state[2] then return state[1], cid end
  local sequence = state[3] + 1
  local entry = sequence .. ':' .. message
  local size = state[4] + #entry
  redis.call('HSET', connection, 'seq', sequence, 'bytes', size)
  local length = redis.call('RPUSH', mailbox, entry)
  if length == 1 then redis.call('EXPIRE', mailbox, ttl) end -- from then on its connection renews it
  if length > tonumber(most) or size > tonumber(most_bytes) then
    redis.call('HSET', connection, 'overflow', 1)
    redis.call('DEL', mailbox)
    return state[1], cid
  end
  return state[1], cid .. ':' .. sequence
end
"""

_FORGET = """
local function forget(cid)
  local state = redis.call('HMGET', 'wps:c:' .. cid, 'hub', 'user')
  if state[1] then
    local hub = 'wps:h:' .. state[1]
    for _, group in ipairs(redis.call('SMEMBERS', 'wps:g:' .. cid)) do
      redis.call('SREM', hub .. ':g:' .. group, cid)
    end
    redis.call('SREM', hub .. ':all', cid)
    if state[2] ~= '' then redis.call('SREM', hub .. ':u:' .. state[2], cid) end
  end
  redis.call('DEL', 'wps:c:' .. cid, 'wps:o:' .. cid, 'wps:g:' .. cid, 'wps:a:' .. cid)
end
"""

_RENEW = """
local function keep(members, ttl)
  for _, cid in ipairs(redis.call('SRANDMEMBER', members, 5)) do
    if redis.call('EXISTS', 'wps:c:' .. cid) == 0 then redis.call('SREM', members, cid) end
  end
  redis.call('EXPIRE', members, ttl)
end
local function renew(cid, ttl, set_ttl)
  for _, kind in ipairs({'c', 'o', 'g', 'a'}) do redis.call('EXPIRE', 'wps:' .. kind .. ':' .. cid, ttl) end
  local state = redis.call('HMGET', 'wps:c:' .. cid, 'hub', 'user')
  local hub = 'wps:h:' .. state[1]
  for _, group in ipairs(redis.call('SMEMBERS', 'wps:g:' .. cid)) do
    keep(hub .. ':g:' .. group, set_ttl)
  end
  keep(hub .. ':all', set_ttl)
  keep(hub .. ':u:' .. state[2], set_ttl)
end
"""

PUBLISH = (
    _DELIVER
    + """
-- KEYS: a set of connections. ARGV: message, most, most bytes, ttl, excluded connections...
local excluded, rings, delivered = {}, {}, 0
for i = 5, #ARGV do excluded[ARGV[i]] = true end
for _, cid in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not excluded[cid] then
    local node, ring = deliver(cid, ARGV[1], ARGV[2], ARGV[3], ARGV[4])
    if node then
      rings[node] = rings[node] or {}
      table.insert(rings[node], ring)
      delivered = delivered + 1
    else redis.call('SREM', KEYS[1], cid) end
  end
end
for node, ring in pairs(rings) do
  redis.call('PUBLISH', 'wps:n:' .. node, table.concat(ring, ' ') .. '\\n' .. ARGV[1])
end
return delivered
"""
)

SEND_TO_CONNECTION = (
    _DELIVER
    + """
-- ARGV: message, most, most bytes, ttl, connection, hub
if redis.call('HGET', 'wps:c:' .. ARGV[5], 'hub') ~= ARGV[6] then return 0 end
local node, ring = deliver(ARGV[5], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if not node then return 0 end
redis.call('PUBLISH', 'wps:n:' .. node, ring .. '\\n' .. ARGV[1])
return 1
"""
)

DRAIN = """
-- ARGV: connection, owner, last sequence sent, most entries, '1' to remove them
local connection, mailbox = 'wps:c:' .. ARGV[1], 'wps:o:' .. ARGV[1]
local state = redis.call('HMGET', connection, 'owner', 'closing', 'overflow')
if not state[1] then return {'gone', ''} end
if state[1] ~= ARGV[2] then return {'taken', ''} end
if state[2] then return {'closing', state[2]} end
if state[3] then return {'overflow', ''} end
local head = redis.call('LINDEX', mailbox, 0)
if not head then return {'open', ''} end
local start = math.max(tonumber(ARGV[3]) + 1 - tonumber(string.match(head, '^%d+')), 0)
local entries = redis.call('LRANGE', mailbox, start, start + tonumber(ARGV[4]) - 1)
if ARGV[5] == '1' and #entries > 0 then
  redis.call('LTRIM', mailbox, start + #entries, -1)
  local size = 0
  for _, entry in ipairs(entries) do size = size + #entry end
  redis.call('HINCRBY', connection, 'bytes', -size)
end
return {'open', '', unpack(entries)}
"""

ACKNOWLEDGE = """
-- ARGV: connection, owner, sequence; and so on for others
local function acknowledge(cid, owner, sequence)
  local connection, mailbox = 'wps:c:' .. cid, 'wps:o:' .. cid
  if redis.call('HGET', connection, 'owner') ~= owner then return end
  local head = redis.call('LINDEX', mailbox, 0)
  if not head then return end
  local count = tonumber(sequence) - tonumber(string.match(head, '^%d+')) + 1
  if count <= 0 then return end
  local size = 0
  for _, entry in ipairs(redis.call('LRANGE', mailbox, 0, count - 1)) do size = size + #entry end
  redis.call('LTRIM', mailbox, count, -1)
  redis.call('HINCRBY', connection, 'bytes', -size)
end
for i = 1, #ARGV, 3 do acknowledge(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return 1
"""

OPEN = (
    _RENEW
    + """
-- ARGV: connection, hub, user, token, roles, owner, node, ttl, set ttl, groups...
local cid, hub = ARGV[1], 'wps:h:' .. ARGV[2]
redis.call('HSET', 'wps:c:' .. cid, 'hub', ARGV[2], 'user', ARGV[3], 'token', ARGV[4], 'roles', ARGV[5],
  'owner', ARGV[6], 'node', ARGV[7], 'seq', 0, 'bytes', 0)
redis.call('SADD', hub .. ':all', cid)
if ARGV[3] ~= '' then redis.call('SADD', hub .. ':u:' .. ARGV[3], cid) end
for i = 10, #ARGV do
  redis.call('SADD', hub .. ':g:' .. ARGV[i], cid)
  redis.call('SADD', 'wps:g:' .. cid, ARGV[i])
end
renew(cid, ARGV[8], ARGV[9])
return 1
"""
)

TAKE = (
    _RENEW
    + """
-- ARGV: connection, hub, token, owner, node, ttl, set ttl. Whoever held the socket is told.
local connection = 'wps:c:' .. ARGV[1]
local state = redis.call('HMGET', connection, 'hub', 'token', 'closing', 'overflow', 'node', 'user', 'roles')
if state[1] ~= ARGV[2] or state[2] ~= ARGV[3] or state[3] or state[4] then return nil end
redis.call('HSET', connection, 'owner', ARGV[4], 'node', ARGV[5])
renew(ARGV[1], ARGV[6], ARGV[7])
redis.call('PUBLISH', 'wps:n:' .. state[5], ARGV[1])
return {state[6], state[7]}
"""
)

RENEW = (
    _RENEW
    + """
-- ARGV: connection, owner, ttl, set ttl
if redis.call('HGET', 'wps:c:' .. ARGV[1], 'owner') ~= ARGV[2] then return 0 end
renew(ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

RELEASE = (
    _FORGET
    + _RENEW
    + """
-- ARGV: connection, owner, '1' to keep it for a recovery, ttl, set ttl
if redis.call('HGET', 'wps:c:' .. ARGV[1], 'owner') ~= ARGV[2] then return 0 end
if ARGV[3] == '1' then renew(ARGV[1], ARGV[4], ARGV[5]) else forget(ARGV[1]) end
return 1
"""
)

CLOSE = """
-- ARGV: connection, hub, reason
if redis.call('HGET', 'wps:c:' .. ARGV[1], 'hub') ~= ARGV[2] then return 0 end
redis.call('HSET', 'wps:c:' .. ARGV[1], 'closing', ARGV[3])
redis.call('PUBLISH', 'wps:n:' .. redis.call('HGET', 'wps:c:' .. ARGV[1], 'node'), ARGV[1])
return 1
"""

JOIN = """
-- ARGV: connection, hub, group, ttl, set ttl
if redis.call('HGET', 'wps:c:' .. ARGV[1], 'hub') ~= ARGV[2] then return 0 end
local members = 'wps:h:' .. ARGV[2] .. ':g:' .. ARGV[3]
redis.call('SADD', members, ARGV[1])
redis.call('EXPIRE', members, ARGV[5])
redis.call('SADD', 'wps:g:' .. ARGV[1], ARGV[3])
redis.call('EXPIRE', 'wps:g:' .. ARGV[1], ARGV[4])
return 1
"""

LEAVE = """
-- ARGV: connection, hub, group
redis.call('SREM', 'wps:h:' .. ARGV[2] .. ':g:' .. ARGV[3], ARGV[1])
if redis.call('HGET', 'wps:c:' .. ARGV[1], 'hub') ~= ARGV[2] then return 0 end
redis.call('SREM', 'wps:g:' .. ARGV[1], ARGV[3])
return 1
"""

ONCE = """
-- ARGV: connection, ack id, most ids, ttl. 1 the first time.
local key = 'wps:a:' .. ARGV[1]
local added = redis.call('ZADD', key, 'NX', ARGV[2], ARGV[2])
redis.call('ZREMRANGEBYRANK', key, 0, -tonumber(ARGV[3]) - 1)
redis.call('EXPIRE', key, ARGV[4])
return added
"""
