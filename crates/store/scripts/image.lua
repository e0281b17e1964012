-- All that is there of a sale. Changes nothing.
--
-- KEYS  1 sale (hash)  2 holds (hash)
-- Reply as apply.lua to no operation, with every hold; of a sale that is not known, all sums are 0
local sale = redis.call('HMGET', KEYS[1], 'stock', 'held', 'sold', 'sequence', 'epoch')
for i = 1, 5 do sale[i] = tonumber(sale[i]) or 0 end
local reply = {clock(), sale[5], sale[4], sale[1] - sale[2] - sale[3], sale[2], sale[3], -1, 0, 0}
local holds = redis.call('HGETALL', KEYS[2])
reply[9] = #holds / 2
for i = 1, #holds do reply[#reply + 1] = holds[i] end
return reply
