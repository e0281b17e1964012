-- KEYS: room, lease. ARGV: node, take, seen, lasts (ms), keep (ms).
-- Answers: mine, term, batch, epoch.
local room, lease = KEYS[1], KEYS[2]
local owner = redis.call('GET', lease)
local mine = 0
if owner == ARGV[1] then
  mine = 1
elseif not owner and ARGV[2] == '1' then
  mine = 1
  local term = tonumber(redis.call('HGET', room, 'term') or '0')
  local seen = tonumber(ARGV[3])
  if seen > term then term = seen end
  redis.call('HSET', room, 'term', term + 1)
end
if mine == 1 then
  redis.call('SET', lease, ARGV[1], 'PX', ARGV[4])
  redis.call('PEXPIRE', room, ARGV[5])
end
local known = redis.call('HMGET', room, 'term', 'batch', 'epoch')
return { mine, tonumber(known[1] or '0'), tonumber(known[2] or '0'), known[3] or '' }
