-- KEYS: room, lease, told, then the lists: lines, and those of changes.
-- ARGV: node, term, number, lasts (ms), keep (ms), batches kept, epoch, offset, told; of each list how many are kept, how many are
-- new, and these; then, of lines that say something else now, place and line.
-- Answers 1 where it is there, 0 where the term is over or a batch before it is lost.
local room, lease, told, lines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
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
redis.call('HSET', room, 'batch', number, 'epoch', ARGV[7], 'offset', ARGV[8])
redis.call('XADD', told, 'MAXLEN', '~', ARGV[6], number .. '-0', 't', ARGV[9])
local at = 10
for list = 4, #KEYS do
  local kept, count = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  if count > 0 then
    -- Lua hands only so many values to one call.
    local from = at
    while from < at + count do
      local to = math.min(from + 999, at + count - 1)
      redis.call('RPUSH', KEYS[list], unpack(ARGV, from, to))
      from = to + 1
    end
    redis.call('LTRIM', KEYS[list], -tonumber(kept), -1)
    at = at + count
  end
end
while at < #ARGV do
  local from_last = tonumber(ARGV[8]) - tonumber(ARGV[at]) + 1
  if from_last >= 1 and from_last <= redis.call('LLEN', lines) then
    redis.call('LSET', lines, -from_last, ARGV[at + 1])
  end
  at = at + 2
end
for key = 1, #KEYS do
  if key ~= 2 then redis.call('PEXPIRE', KEYS[key], ARGV[5]) end
end
redis.call('PUBLISH', told, '')
return 1
