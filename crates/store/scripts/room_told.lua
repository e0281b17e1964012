-- KEYS: told. ARGV: after, at most. Answers number, text, number, text, …
-- Numbers are NUMBER-0, so this is the next there can be.
local found = redis.call('XRANGE', KEYS[1], ARGV[1] .. '-1', '+', 'COUNT', ARGV[2])
local answer = {}
for _, entry in ipairs(found) do
  answer[#answer + 1] = tonumber(string.match(entry[1], '^(%d+)'))
  answer[#answer + 1] = entry[2][2]
end
return answer
