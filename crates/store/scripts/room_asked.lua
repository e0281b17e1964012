-- KEYS: asked. ARGV: after (empty: from the beginning), at most. Answers the last one's id, then the texts.
local from = '-'
if ARGV[1] ~= '' then
  local ms, number = string.match(ARGV[1], '^(%d+)-(%d+)$')
  from = ms .. '-' .. (number + 1)
end
local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
local answer = { ARGV[1] }
for _, entry in ipairs(found) do
  answer[1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
