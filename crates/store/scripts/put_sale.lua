-- Makes a sale known, with what was sold of it before; of a known sale, changes its times only. SaleBook::put_terms in haul-commerce defines it.
--
-- KEYS  1 sale (hash)  2 deadlines (sorted set)
-- ARGV  1 clock mark in ms, then stock, per_buyer, hold_ms, pay_ms, opens_at, closes_at, sold
-- Reply now, sequence, available, held, sold, next deadline (-1: none)
local known = redis.call('HMGET', KEYS[1], 'stock', 'held', 'sold', 'sequence', 'clock', 'opens_at', 'closes_at')
local mark = tonumber(known[5]) or 0
local now = math.max(clock(), mark)
local stock, held, sold = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
local sequence = tonumber(known[4])

if not stock then
  stock, held, sold = tonumber(ARGV[2]), 0, tonumber(ARGV[8])
  sequence = sold > 0 and 2 or 1
  redis.call('HSET', KEYS[1],
    'stock', ARGV[2], 'per_buyer', ARGV[3], 'hold_ms', ARGV[4], 'pay_ms', ARGV[5], 'opens_at', ARGV[6],
    'closes_at', ARGV[7], 'held', 0, 'sold', ARGV[8], 'epoch', 1, 'sequence', sequence, 'clock', string.format('%.0f', now))
elseif known[6] ~= ARGV[6] or known[7] ~= ARGV[7] then
  sequence = sequence + 1
  redis.call('HSET', KEYS[1], 'opens_at', ARGV[6], 'closes_at', ARGV[7], 'sequence', string.format('%.0f', sequence),
    'clock', string.format('%.0f', now))
elseif now >= mark + tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', now))
end

local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {now, sequence, stock - held - sold, held, sold, tonumber(first[2] or -1)}
