"""What Redis does atomically, in Lua. Times are the server's own.

Lua's numbers are doubles, exact up to 2^53, which in picodollars is nine thousand dollars. So an amount travels and is
kept as two whole numbers, dollars and picodollars below one dollar, and each stays far below that.

Keys, after the prefix: `v:` a value, `b:` a bucket (level, at), `s:` a scope (version, spent, reserved), `r:` a
reservation (scope -> amount), `lapses` the reservations by the millisecond in which they lapse.
"""

from __future__ import annotations

from .limits import SCOPE_TTL_S, SLACK

_NOW = f"""
local SCOPE_TTL_S, SLACK = {SCOPE_TTL_S:.0f}, {SLACK!r}
local prefix = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
"""

_BUCKETS = (
    _NOW
    + """
local levels = {}
for i = 1, #ARGV, 4 do
  local bucket, capacity, per_s = ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  if not levels[bucket] then
    local kept = redis.call('HMGET', prefix .. 'b:' .. bucket, 'level', 'at')
    local level = capacity
    if kept[1] then
      level = math.min(capacity, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * per_s)
    end
    levels[bucket] = level
  end
end
local function keep()
  for i = 1, #ARGV, 4 do
    local bucket, capacity, per_s = ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local key, full_in = prefix .. 'b:' .. bucket, SCOPE_TTL_S
    if levels[bucket] >= capacity then
      redis.call('DEL', key)
    else
      if per_s > 0 then full_in = math.min(full_in, (capacity - levels[bucket]) / per_s) end
      redis.call('HSET', key, 'level', string.format('%.17g', levels[bucket]), 'at', string.format('%.17g', now))
      redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(full_in * 1000) + 1))
    end
  end
end
"""
)

TAKE = (
    _BUCKETS
    + """
local index, longest = nil, nil
for i = 1, #ARGV, 4 do
  local bucket, amount, capacity, per_s = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  levels[bucket] = levels[bucket] - amount
  if levels[bucket] < -SLACK and amount > 0 then
    local wait = math.huge
    if amount <= capacity and per_s > 0 then wait = -levels[bucket] / per_s end
    if not longest or wait > longest then index, longest = (i - 1) / 4, wait end
  end
end
if index then
  if longest == math.huge then return {index, 'inf'} end
  return {index, string.format('%.17g', longest)}
end
keep()
return false
"""
)
"""ARGV: bucket, amount, capacity, per_s of each. Returns false, or (index, seconds)."""

GIVE_BACK = (
    _BUCKETS
    + """
for i = 1, #ARGV, 4 do
  levels[ARGV[i]] = math.min(tonumber(ARGV[i + 2]), levels[ARGV[i]] + tonumber(ARGV[i + 1]))
end
keep()
return false
"""
)
"""ARGV: as of TAKE."""

_BUDGETS = (
    _NOW
    + """
local lapses = prefix .. 'lapses'
local function carried(dollars, rest)
  local whole = math.floor(rest / 1e12)
  return dollars + whole, rest - whole * 1e12
end
local function of(text)
  if not text then return 0, 0 end
  local dollars, rest = string.match(text, '^(%d+):(%d+)$')
  return tonumber(dollars), tonumber(rest)
end
local function text(dollars, rest)
  return string.format('%.0f:%.0f', dollars, rest)
end
local function add_reserved(scope, dollars, rest)
  local key = prefix .. 's:' .. scope
  local d, r = of(redis.call('HGET', key, 'reserved'))
  d, r = carried(d + dollars, r + rest)
  if d < 0 then d, r = 0, 0 end
  redis.call('HSET', key, 'reserved', text(d, r))
  redis.call('PEXPIRE', key, SCOPE_TTL_S * 1000)
end
local function release(reservation)
  local held = redis.call('HGETALL', prefix .. 'r:' .. reservation)
  for i = 1, #held, 2 do
    local d, r = of(held[i + 1])
    add_reserved(held[i], -d, -r)
  end
  redis.call('DEL', prefix .. 'r:' .. reservation)
  redis.call('ZREM', lapses, reservation)
end
local function note(scope, version, spent)
  local key = prefix .. 's:' .. scope
  local known = redis.call('HGET', key, 'version')
  if not known or tonumber(version) > tonumber(known) then
    redis.call('HSET', key, 'version', version, 'spent', spent)
    redis.call('PEXPIRE', key, SCOPE_TTL_S * 1000)
  end
end
for _, reservation in ipairs(redis.call('ZRANGEBYSCORE', lapses, '-inf', string.format('%.0f', now * 1000))) do
  release(reservation)
end
"""
)

RESERVE = (
    _BUDGETS
    + """
local reservation, ttl_ms = ARGV[1], ARGV[2]
local own, amounts = prefix .. 'r:' .. reservation, {}
for i = 3, #ARGV, 5 do
  local scope, limit = ARGV[i], ARGV[i + 4]
  note(scope, ARGV[i + 1], ARGV[i + 2])
  local kept = redis.call('HMGET', prefix .. 's:' .. scope, 'spent', 'reserved')
  local d, r = of(amounts[scope])
  local dh, rh = of(ARGV[i + 3])
  d, r = carried(d + dh, r + rh)
  amounts[scope] = text(d, r)
  local ds, rs = of(kept[1])
  local dr, rr = of(kept[2])
  local mine_d, mine_r = of(redis.call('HGET', own, scope))
  local dl, rl = of(limit)
  d, r = carried(d + ds + dr - mine_d, r + rs + rr - mine_r)
  if d > dl or (d == dl and r > rl) then return (i - 3) / 5 end
end
release(reservation)
for scope, amount in pairs(amounts) do
  local d, r = of(amount)
  redis.call('HSET', own, scope, amount)
  add_reserved(scope, d, r)
end
if next(amounts) then
  local at = now * 1000 + tonumber(ttl_ms)
  redis.call('ZADD', lapses, string.format('%.0f', at), reservation)
end
return false
"""
)
"""ARGV: reservation, milliseconds; then scope, version, spent, amount, limit of each. Returns false or an index."""

SETTLE = (
    _BUDGETS
    + """
release(ARGV[1])
for i = 2, #ARGV, 3 do note(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return false
"""
)
"""ARGV: reservation; then scope, version, spent of each."""
