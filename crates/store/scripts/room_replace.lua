-- KEYS: room, lease, told, asked, then lists.
-- ARGV: node, term, lasts (ms), keep (ms), told (up to this batch it goes), asked (up to here it goes; empty: none of it), then
-- what the lists are from now on: of each how many, and these.
-- Answers 1 where it is done, 0 where the term is over.
if redis.call('HGET', KEYS[1], 'term') ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
local at = 7
for list = 5, #KEYS do
  local count = tonumber(ARGV[at])
  at = at + 1
  redis.call('DEL', KEYS[list])
  local from = at
  while from < at + count do
    -- Lua hands only so many values to one call.
    local to = math.min(from + 999, at + count - 1)
    redis.call('RPUSH', KEYS[list], unpack(ARGV, from, to))
    from = to + 1
  end
  redis.call('PEXPIRE', KEYS[list], ARGV[4])
  at = at + count
end
redis.call('XTRIM', KEYS[3], 'MINID', string.format('%.0f', tonumber(ARGV[5]) + 1) .. '-0')
if ARGV[6] ~= '' then
  local ms, number = string.match(ARGV[6], '^(%d+)-(%d+)$')
  redis.call('XTRIM', KEYS[4], 'MINID', ms .. '-' .. (number + 1))
end
return 1
