-- KEYS: room, then lists. Answers epoch, offset, and of each list its length and its values.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local answer = { known[1] or '', tonumber(known[2] or '0') }
for list = 2, #KEYS do
  local values = redis.call('LRANGE', KEYS[list], 0, -1)
  answer[#answer + 1] = #values
  for _, value in ipairs(values) do
    answer[#answer + 1] = value
  end
end
return answer
