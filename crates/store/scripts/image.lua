-- All that is there of a sale. Changes nothing.
--
-- KEYS  1 sale (hash)  2 holds (hash)
-- Reply: when it opens and closes and whether it is paused, then as apply.lua to no operation, with every hold; of a sale that is
-- not known, all of it is 0
local sale = redis.call('HMGET', KEYS[1], 'epoch', 'sequence', 'more')
for i = 1, 3 do sale[i] = tonumber(sale[i]) or 0 end
local terms = redis.call('HMGET', KEYS[1], 'opens_at', 'closes_at', 'paused')
for i = 1, 3 do terms[i] = tonumber(terms[i]) or 0 end
local reply = {terms[1], terms[2], terms[3], clock(), sale[1], sale[2], -1, 1 + sale[3]}
for line = 0, sale[3] do
  local of = line == 0 and '' or ':' .. line
  local units = redis.call('HMGET', KEYS[1], 'stock' .. of, 'held' .. of, 'sold' .. of)
  for i = 1, 3 do units[i] = tonumber(units[i]) or 0 end
  reply[#reply + 1] = units[1] - units[2] - units[3]
  reply[#reply + 1] = units[2]
  reply[#reply + 1] = units[3]
end
reply[#reply + 1] = 0
reply[#reply + 1] = 0
local holds = redis.call('HGETALL', KEYS[2])
reply[#reply + 1] = #holds / 2
for i = 1, #holds do reply[#reply + 1] = holds[i] end
return reply
