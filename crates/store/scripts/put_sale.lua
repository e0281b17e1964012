-- Makes a sale known; of a known sale, changes what may change. SaleBook::put_terms in haul-commerce defines it.
--
-- KEYS  1 sale (hash)  2 deadlines (sorted set)  3 waiting (sorted set)  then the sale's other keys
-- ARGV  1 clock mark in ms  2, 3 epoch and sequence that the caller has seen  4 ms for which a sale is kept after it
--       closed, then the terms: hold_ms, pay_ms, opens_at, closes_at, paused (0 or 1), mode (empty, or F: first paid, first
--       served), early (tier=ms joined by commas), offer_ms (empty: no line to wait in), draw_ms (empty: it is not drawn), number of lines after the first, for each line two: stock, per_buyer
-- Reply now, epoch, sequence, next deadline (-1: none), number of lines, for each of them three: available, held, sold
--       or, where the sale is behind what was seen or frozen: -1, epoch, sequence
local known = redis.call('HMGET', KEYS[1], 'stock', 'sequence', 'clock', 'epoch', 'frozen', 'opens_at', 'closes_at',
  'paused', 'more')
local mark = tonumber(known[3]) or 0
local now = math.max(clock(), mark)
local epoch, sequence = tonumber(known[4]) or 0, tonumber(known[2]) or 0
local seen_epoch, seen_sequence, closes_at = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[8])
local at = string.format('%.0f', now)
local function of(line) return line == 0 and '' or ':' .. line end

if known[5] or epoch < seen_epoch or (epoch == seen_epoch and sequence < seen_sequence) then
  return {-1, epoch, sequence}
end
local more = tonumber(known[9]) or 0
local wanted = tonumber(ARGV[14])
if not known[1] then
  more, epoch, sequence = wanted, 1, 1
  redis.call('HSET', KEYS[1], 'hold_ms', ARGV[5], 'pay_ms', ARGV[6], 'opens_at', ARGV[7], 'closes_at', ARGV[8],
    'paused', ARGV[9], 'mode', ARGV[10], 'early', ARGV[11], 'offer_ms', ARGV[12], 'draw_ms', ARGV[13], 'more', more, 'epoch', 1, 'sequence', 1, 'clock', at)
  for line = 0, more do
    redis.call('HSET', KEYS[1], 'stock' .. of(line), ARGV[15 + 2 * line], 'per_buyer' .. of(line), ARGV[16 + 2 * line],
      'held' .. of(line), 0, 'sold' .. of(line), 0)
  end
else
  local changed = known[6] ~= ARGV[7] or known[7] ~= ARGV[8] or (known[8] or '0') ~= ARGV[9]
  -- Stock that was added; it never becomes less.
  for line = 0, math.min(more, wanted) do
    local stock = ARGV[15 + 2 * line]
    if tonumber(stock) > tonumber(redis.call('HGET', KEYS[1], 'stock' .. of(line))) then
      redis.call('HSET', KEYS[1], 'stock' .. of(line), stock)
      changed = true
    end
  end
  if changed then
    sequence = sequence + 1
    redis.call('HSET', KEYS[1], 'opens_at', ARGV[7], 'closes_at', ARGV[8], 'paused', ARGV[9],
      'sequence', string.format('%.0f', sequence), 'clock', at)
  elseif now >= mark + tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], 'clock', at)
  end
end
local keep_ms = string.format('%.0f', math.max(closes_at - now, 0) + tonumber(ARGV[4]))
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], keep_ms) end

local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
-- What changed may concern those in line: a sweep finds out.
local next_deadline = redis.call('ZCARD', KEYS[3]) > 0 and now or tonumber(first[2] or -1)
local reply = {now, epoch, sequence, next_deadline, 1 + more}
for line = 0, more do
  local units = redis.call('HMGET', KEYS[1], 'stock' .. of(line), 'held' .. of(line), 'sold' .. of(line))
  local held, sold = tonumber(units[2]), tonumber(units[3])
  reply[#reply + 1] = tonumber(units[1]) - held - sold
  reply[#reply + 1] = held
  reply[#reply + 1] = sold
end
return reply
