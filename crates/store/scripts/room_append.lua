-- KEYS: room, lease, told, lines, chat, changes.
-- ARGV: node, term, number, lasts (ms), keep (ms), batches kept, lines kept, chat kept, changes kept, epoch, offset, told,
-- how many lines, how many of the chat, how many changes, then all of these.
-- Answers 1 where it is there, 0 where the term is over or a batch before it is lost.
local room, lease, told = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', room, 'term', 'batch')
local number, last = tonumber(ARGV[3]), tonumber(known[2] or '0')
-- Before the first lease there is no term: 0 is nobody's.
if not known[1] or tonumber(known[1]) ~= tonumber(ARGV[2]) or number > last + 1 then
  return 0
end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[4])
if number <= last then
  return 1
end
redis.call('HSET', room, 'batch', number, 'epoch', ARGV[10], 'offset', ARGV[11])
redis.call('XADD', told, 'MAXLEN', '~', ARGV[6], number .. '-0', 't', ARGV[12])
local at = 16
for list = 1, 3 do
  local count = tonumber(ARGV[12 + list])
  if count > 0 then
    local key = KEYS[3 + list]
    -- Lua hands only so many values to one call.
    local from = at
    while from < at + count do
      local to = math.min(from + 999, at + count - 1)
      redis.call('RPUSH', key, unpack(ARGV, from, to))
      from = to + 1
    end
    redis.call('LTRIM', key, -tonumber(ARGV[6 + list]), -1)
    at = at + count
  end
end
for key = 1, 6 do
  if key ~= 2 then redis.call('PEXPIRE', KEYS[key], ARGV[5]) end
end
redis.call('PUBLISH', told, '')
return 1
