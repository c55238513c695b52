-- ARGV: operations as JSON, prefix of keys, lease (ms), seconds that an idle subject is kept. Answers JSON.
local ops, prefix = cjson.decode(ARGV[1]), ARGV[2]
local lease, kept_seconds = tonumber(ARGV[3]), tonumber(ARGV[4])
local leases, calls, over = prefix .. 'leases', prefix .. 'calls', prefix .. 'over'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local minute = { 'requests', 'input_tokens', 'output_tokens' }

local function whole(number) return string.format('%.0f', number) end

local function number(key, field) return tonumber(redis.call('HGET', key, field) or 0) end

-- What was used per minute is a debt that is paid off at `limit` a minute.
local function debt(key, kind, limit)
  local noted = redis.call('HMGET', key, kind, kind .. '@')
  if not noted[1] then return 0 end
  local passed = math.max(now - tonumber(noted[2]), 0)
  return math.max(tonumber(noted[1]) - passed * limit / 60000, 0)
end

local function owe(key, kind, amount)
  if redis.call('HEXISTS', key, kind) == 1 then
    redis.call('HINCRBYFLOAT', key, kind, amount)
  end
end

local function lapse_in(id, span) redis.call('ZADD', leases, whole(now + span), id) end

local function check(amounts)
  for _, amount in ipairs(amounts) do
    if type(amount) ~= 'number' then error('no number: ' .. tostring(amount), 0) end
  end
  if amounts[1] > 2 ^ 53 then error('more than can be counted', 0) end
end

local function keep(key) redis.call('EXPIRE', key, kept_seconds) end

local function hold(id, subjects, amounts, record, anew)
  check(amounts)
  for _, subject in ipairs(subjects) do
    local key = prefix .. subject
    redis.call('HINCRBY', key, 'h', whole(amounts[1]))
    if anew then keep(key) end
    if amounts[3] > 0 then redis.call('HINCRBY', key, 'n', amounts[3]) end
  end
  redis.call('HSET', calls, id, 'o' .. record)
  lapse_in(id, lease)
end

-- Redis may have forgotten a subject alone: less than nothing held would let calls pass its budget.
local function lowered(noted, amount) return whole(math.max(tonumber(noted) - amount, 0)) end

local function release(subjects, amounts)
  for _, subject in ipairs(subjects) do
    local key = prefix .. subject
    local noted = redis.call('HMGET', key, 'h', 'n')
    if noted[1] then redis.call('HSET', key, 'h', lowered(noted[1], amounts[1])) end
    if noted[2] then redis.call('HSET', key, 'n', lowered(noted[2], amounts[3])) end
  end
end

local function drop(id)
  redis.call('HDEL', calls, id)
  redis.call('ZREM', leases, id)
end

local over_leases = 5 -- so long it is known that a call is over: what is told late or again is not done

local estimate = '%b[]' -- in an estimated call: what was counted for it

local function state(id)
  local kept = redis.call('HGET', calls, id)
  if kept then return string.sub(kept, 1, 1), kept end
  return redis.call('ZSCORE', over, id) and 'f' or ''
end

local function refusal(place, rule, amounts)
  local key, kind, limit = prefix .. rule[1], rule[2], rule[3]
  if kind == 'spend' then
    local spent, held = number(key, 's:' .. rule[4]), number(key, 'h')
    if spent >= limit or (held > 0 and spent + held + amounts[1] > limit) then
      return { 'refused', place - 1, spent, held, 2000 }
    end
  elseif kind == 'streams' then
    local streams = number(key, 'n')
    if amounts[3] > 0 and streams + amounts[3] > limit then return { 'refused', place - 1, streams, 0, 1000 } end
  else
    local owed = debt(key, kind, limit)
    if owed + 1 > limit then return { 'refused', place - 1, owed, 0, (owed + 1 - limit) * 60000 / math.max(limit, 1) } end
  end
end

local act = {}

function act.admit(id, subjects, amounts, record, rules)
  if state(id) ~= '' then return { 'ok' } end
  local unseeded, fading = { 'unseeded' }, {}
  for _, subject in ipairs(subjects) do
    local key = prefix .. subject
    local kept_at = redis.call('HGET', key, 'seeded')
    if not kept_at then table.insert(unseeded, subject) end
    if kept_at and now - tonumber(kept_at) > kept_seconds * 500 then table.insert(fading, key) end
  end
  if #unseeded > 1 then return unseeded end
  for place, rule in ipairs(rules) do
    local refused = refusal(place, rule, amounts)
    if refused then return refused end
  end
  hold(id, subjects, amounts, record)
  for _, key in ipairs(fading) do
    redis.call('HSET', key, 'seeded', whole(now))
    keep(key)
  end
  for _, rule in ipairs(rules) do
    local key, kind = prefix .. rule[1], rule[2]
    if kind ~= 'spend' and kind ~= 'streams' then
      local taken = kind == 'requests' and 1 or kind == 'input_tokens' and amounts[2] or 0
      redis.call('HSET', key, kind, debt(key, kind, rule[3]) + taken, kind .. '@', whole(now))
    end
  end
  return { 'ok' }
end

function act.renew(id, subjects, amounts, record)
  local known = state(id)
  if known == 'o' then lapse_in(id, lease) elseif known == '' then hold(id, subjects, amounts, record, true) end
  return { 'ok' }
end

function act.withdraw(id, subjects, amounts)
  local known = state(id)
  if known == 'o' then
    release(subjects, amounts)
    for _, subject in ipairs(subjects) do
      owe(prefix .. subject, 'requests', -1)
      owe(prefix .. subject, 'input_tokens', 0 - amounts[2])
    end
    drop(id)
  elseif known == '' or known == 'w' then -- its admission may come later, if at all
    redis.call('HSET', calls, id, 'w')
    lapse_in(id, lease)
  end
  return { 'ok' }
end

function act.settle(id, subjects, amounts, record, used, periods, estimated)
  check(used)
  local known, kept = state(id)
  if known == 's' or known == 'f' or (estimated and known ~= 'o') then return { 'ok' } end
  local counted, held = { 0, 0, 0 }, { 0, 0 }
  if known == 'o' then
    held = { amounts[1], amounts[3] }
    counted[2] = amounts[2]
  elseif known == 'e' or known == 'x' then
    counted = cjson.decode(string.match(kept, estimate))
  end
  local fields = { 'seeded', 'h', 'n', 'input_tokens', 'output_tokens' }
  for _, period in ipairs(periods) do table.insert(fields, 's:' .. period) end
  for _, subject in ipairs(subjects) do
    local key = prefix .. subject
    local noted, changes = redis.call('HMGET', key, unpack(fields)), {}
    local function change(place, value)
      table.insert(changes, fields[place])
      table.insert(changes, value)
    end
    if noted[2] then change(2, lowered(noted[2], held[1])) end
    if noted[3] then change(3, lowered(noted[3], held[2])) end
    if noted[1] then
      if noted[4] then change(4, tonumber(noted[4]) + used[2] - counted[2]) end
      if noted[5] then change(5, tonumber(noted[5]) + used[3] - counted[3]) end
      for place = 6, #fields do change(place, whole(tonumber(noted[place] or 0) + used[1] - counted[1])) end
    end
    if #changes > 0 then redis.call('HSET', key, unpack(changes)) end
  end
  local now_known = 's'
  if estimated then now_known = 'e[' .. table.concat({ whole(used[1]), whole(used[2]), whole(used[3]) }, ',') .. ']' end
  redis.call('HSET', calls, id, now_known .. record)
  lapse_in(id, lease / 4) -- its record is on its way, if its process lives
  return { 'ok' }
end

function act.forget(ids)
  for _, id in ipairs(ids) do
    local known, kept = state(id)
    if known == 'e' then -- the truth may still come
      redis.call('HSET', calls, id, 'x' .. string.match(kept, estimate))
      lapse_in(id, kept_seconds * 1000)
    elseif known == 's' or known == 'w' then
      drop(id)
      if known == 's' then redis.call('ZADD', over, whole(now + over_leases * lease), id) end
    end
  end
  redis.call('ZREMRANGEBYSCORE', over, '-inf', whole(now))
  redis.call('PEXPIRE', over, over_leases * lease)
  return { 'ok' }
end

function act.seed(subject, spent, used)
  local key = prefix .. subject
  if redis.call('HSETNX', key, 'seeded', whole(now)) == 0 then return { 'ok' } end
  for period, amount in pairs(spent) do redis.call('HSET', key, 's:' .. period, whole(amount)) end
  for place, kind in ipairs(minute) do
    if used[place] > 0 then redis.call('HSET', key, kind, used[place], kind .. '@', whole(now)) end
  end
  keep(key)
  return { 'ok' }
end

function act.lapsed(limit)
  local found, due, most = { 'lapsed' }, nil, nil
  repeat
    most = limit + 1 - #found
    due = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'LIMIT', 0, most)
    for _, id in ipairs(due) do
      local known, kept = state(id)
      if known == 'o' or known == 's' or known == 'e' then
        local record = known == 'e' and string.gsub(kept, estimate, '', 1) or kept
        table.insert(found, { id, known == 'o', string.sub(record, 2) })
        lapse_in(id, lease)
      else
        drop(id)
      end
    end
  until #due < most or #found > limit
  return found
end

-- An operation fails by itself, unless Redis would refuse every other one too: READONLY, OOM, MISCONF, NOREPLICAS.
local function attempt(op)
  local done, answer = pcall(act[op[1]], unpack(op, 2))
  if done then return answer end
  local reason = type(answer) == 'table' and answer.err or tostring(answer)
  local code = string.match(reason, '%u%u%u+')
  if code and code ~= 'ERR' and code ~= 'WRONGTYPE' then error(answer, 0) end
  return { 'failed', reason }
end

local answers = {}
for place, op in ipairs(ops) do answers[place] = attempt(op) end
return cjson.encode(answers)
