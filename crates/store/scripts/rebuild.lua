-- Puts holds back into a sale that was emptied for it. SaleBook::rebuild in haul-commerce defines it.
--
-- KEYS  as those of apply.lua
-- ARGV  1 epoch  2 1: the last piece, the sale goes on  3 the clock that was seen  4, 5 ms for which a hold that is over
--       is kept, without an order and with one  6 ms for which a sale is kept after it closed, then
--       stock, per_buyer, hold_ms, pay_ms, opens_at, closes_at, then for each hold two: hold, as apply.lua writes it
-- Reply now, epoch, sequence, available, held, sold, next deadline (-1: none), 0, then as apply.lua
--       or, where somebody else has taken over: -1, epoch, sequence
local FIRST = 13
local sale = redis.call('HMGET', KEYS[1], 'stock', 'epoch', 'sequence', 'clock', 'frozen', 'held', 'sold')
for i = 1, #sale do sale[i] = tonumber(sale[i]) end
local epoch, sequence, mark = sale[2] or 0, sale[3] or 0, sale[4] or 0
local now = math.max(clock(), mark, tonumber(ARGV[3]))
local stock, held, sold = sale[1] or tonumber(ARGV[7]), sale[6] or 0, sale[7] or 0
local function number(value) return string.format('%.0f', value) end
local added = {}

if epoch ~= tonumber(ARGV[1]) then return {-1, epoch, sequence} end
if sale[5] then
  for i = FIRST, #ARGV, 2 do
    local id, text = ARGV[i], ARGV[i + 1]
    if redis.call('HSETNX', KEYS[2], id, text) == 1 then
      local state, quantity, deadline, made, buyer, order =
        string.match(text, '^(%u)|(%d+)|(%d+)|(%d+)|%d|([^|]+)|(.*)$')
      quantity, deadline = tonumber(quantity), tonumber(deadline)
      if state == 'R' or state == 'L' then
        redis.call('ZADD', KEYS[6], number(deadline + tonumber(order ~= '' and ARGV[5] or ARGV[4])), id)
      else
        redis.call('HINCRBY', KEYS[3], buyer, quantity)
        if state == 'S' then
          sold = sold + quantity
        else
          held = held + quantity
          redis.call('ZADD', KEYS[5], 0, string.format('%s|%016.0f|%s', buyer, tonumber(made), id))
          if state ~= 'C' then redis.call('ZADD', KEYS[4], number(deadline), id) end
        end
      end
      sequence = sequence + 1
      added[#added + 1] = id
      added[#added + 1] = text
    end
  end
  sequence = sequence + 1
  redis.call('HSET', KEYS[1], 'stock', ARGV[7], 'per_buyer', ARGV[8], 'hold_ms', ARGV[9], 'pay_ms', ARGV[10],
    'opens_at', ARGV[11], 'closes_at', ARGV[12], 'held', number(held), 'sold', number(sold),
    'sequence', number(sequence), 'clock', number(now))
  if ARGV[2] == '1' then
    redis.call('HDEL', KEYS[1], 'frozen')
  else
    redis.call('HSET', KEYS[1], 'frozen', number(now))
  end
  local keep_ms = number(math.max(tonumber(ARGV[12]) - now, 0) + tonumber(ARGV[6]))
  for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], keep_ms) end
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local reply = {now, epoch, sequence, stock - held - sold, held, sold, tonumber(first[2] or -1), 0, #added / 2}
for i = 1, #added do reply[#reply + 1] = added[i] end
return reply
