-- Makes a sale known; of a known sale, changes its times only. SaleBook::put_terms in haul-commerce defines it.
--
-- KEYS  1 sale (hash)  2 deadlines (sorted set)  then the sale's other keys
-- ARGV  1 clock mark in ms  2, 3 epoch and sequence that the caller has seen  4 ms for which a sale is kept after it
--       closed, then stock, per_buyer, hold_ms, pay_ms, opens_at, closes_at
-- Reply now, epoch, sequence, available, held, sold, next deadline (-1: none)
--       or, where the sale is behind what was seen or frozen: -1, epoch, sequence
local known = redis.call('HMGET', KEYS[1], 'stock', 'held', 'sold', 'sequence', 'clock', 'opens_at', 'closes_at',
  'epoch', 'frozen')
local mark = tonumber(known[5]) or 0
local now = math.max(clock(), mark)
local stock, held, sold = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
local epoch, sequence = tonumber(known[8]) or 0, tonumber(known[4]) or 0
local seen_epoch, seen_sequence, closes_at = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[10])

if known[9] or epoch < seen_epoch or (epoch == seen_epoch and sequence < seen_sequence) then
  return {-1, epoch, sequence}
end
if not stock then
  stock, held, sold, epoch, sequence = tonumber(ARGV[5]), 0, 0, 1, 1
  redis.call('HSET', KEYS[1],
    'stock', ARGV[5], 'per_buyer', ARGV[6], 'hold_ms', ARGV[7], 'pay_ms', ARGV[8], 'opens_at', ARGV[9],
    'closes_at', ARGV[10], 'held', 0, 'sold', 0, 'epoch', 1, 'sequence', 1, 'clock', string.format('%.0f', now))
elseif known[6] ~= ARGV[9] or known[7] ~= ARGV[10] then
  sequence = sequence + 1
  redis.call('HSET', KEYS[1], 'opens_at', ARGV[9], 'closes_at', ARGV[10], 'sequence', string.format('%.0f', sequence),
    'clock', string.format('%.0f', now))
elseif now >= mark + tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', now))
end
local keep_ms = string.format('%.0f', math.max(closes_at - now, 0) + tonumber(ARGV[4]))
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], keep_ms) end

local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {now, epoch, sequence, stock - held - sold, held, sold, tonumber(first[2] or -1)}
