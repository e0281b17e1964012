-- Empties and freezes a sale, to be rebuilt. SaleBook::begin_rebuild in haul-commerce defines it.
--
-- KEYS  as those of apply.lua
-- ARGV  1, 2 epoch and sequence that the caller has seen  3 ms after which a rebuild may be taken over
-- Reply 1 and the new epoch: begun; 2: somebody else is at it; 3: not needed
local sale = redis.call('HMGET', KEYS[1], 'stock', 'epoch', 'sequence', 'clock', 'frozen')
for i = 1, #sale do sale[i] = tonumber(sale[i]) end
local epoch, sequence, frozen = sale[2] or 0, sale[3] or 0, sale[5]
local now = math.max(clock(), sale[4] or 0)
local seen_epoch, seen_sequence = tonumber(ARGV[1]), tonumber(ARGV[2])

local behind = epoch < seen_epoch or (epoch == seen_epoch and sequence < seen_sequence)
if not frozen and sale[1] and not behind then return {3} end
if frozen and now < frozen + tonumber(ARGV[3]) then return {2} end
-- Its uses of coupons, which the live's counters have too.
local uses = redis.call('HGETALL', KEYS[8])
for i = 1, #uses, 2 do
  local field = uses[i]
  if not string.find(field, '|', 1, true) then field = field .. '|' end
  if uses[i + 1] ~= '0' then redis.call('HINCRBY', KEYS[9], field, '-' .. uses[i + 1]) end
end
for i = 1, 8 do redis.call('DEL', KEYS[i]) end
epoch, sequence = math.max(epoch, seen_epoch) + 1, math.max(sequence, seen_sequence) + 1
local at = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'sequence', string.format('%.0f', sequence), 'clock', at, 'frozen', at)
return {1, epoch}
