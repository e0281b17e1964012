-- Puts holds back into a sale that was emptied for it. SaleBook::rebuild in haul-commerce defines it.
--
-- KEYS  as those of apply.lua
-- ARGV  1 epoch  2 1: the last piece, the sale goes on  3 the clock that was seen  4, 5 ms for which a hold that is over
--       is kept, without an order and with one  6 ms for which a sale is kept after it closed, then the terms as
--       put_sale.lua takes them, then for each hold two: hold, as apply.lua writes it
-- Reply now, epoch, sequence, next deadline (-1: none), lines as apply.lua, 0, 0, then as apply.lua
--       or, where somebody else has taken over: -1, epoch, sequence
local TERMS = 7
local more = tonumber(ARGV[TERMS + 9])
local LINES = TERMS + 10
local FIRST = LINES + 2 * (more + 1)
local sale = redis.call('HMGET', KEYS[1], 'epoch', 'sequence', 'clock', 'frozen')
for i = 1, #sale do sale[i] = tonumber(sale[i]) end
local epoch, sequence, mark = sale[1] or 0, sale[2] or 0, sale[3] or 0
local now = math.max(clock(), mark, tonumber(ARGV[3]))
local function number(value) return string.format('%.0f', value) end
local function of(line) return line == 0 and '' or ':' .. line end
local stock, held, sold = {}, {}, {}
for line = 0, more do
  local units = redis.call('HMGET', KEYS[1], 'held' .. of(line), 'sold' .. of(line))
  stock[line] = tonumber(ARGV[LINES + 2 * line])
  held[line], sold[line] = tonumber(units[1] or 0), tonumber(units[2] or 0)
end
local added = {}

local function each_line(text, visit)
  if tonumber(text) then return visit(0, tonumber(text)) end
  for line, quantity in string.gmatch(text, '(%d+):(%d+)') do visit(tonumber(line), tonumber(quantity)) end
end

-- Counts a hold's units: `sign` -1 takes back what of them has come back.
local function count(state, aside, buyer, text, sign)
  each_line(text, function(line, quantity)
    if quantity == 0 then return end
    redis.call('HINCRBY', KEYS[3], line == 0 and buyer or buyer .. '|' .. line, number(sign * quantity))
    if state == 'S' then
      sold[line] = sold[line] + sign * quantity
    elseif aside then
      held[line] = held[line] + quantity
    end
  end)
end

if epoch ~= tonumber(ARGV[1]) then return {-1, epoch, sequence} end
if sale[4] then
  for i = FIRST, #ARGV, 2 do
    local id, text = ARGV[i], ARGV[i + 1]
    if redis.call('HSETNX', KEYS[2], id, text) == 1 then
      local state, units, deadline, made, flags, buyer, order, returned, coupon =
        string.match(text, '^(%u)|([^|]+)|(%d+)|(%d+)|(%d)|([^|]+)|([^|]*)|?([^|]*)|?(.*)$')
      deadline = tonumber(deadline)
      if state == 'R' or state == 'L' then
        redis.call('ZADD', KEYS[6], number(deadline + tonumber(order ~= '' and ARGV[5] or ARGV[4])), id)
      else
        count(state, tonumber(flags) < 4 and state ~= 'W', buyer, units, 1)
        if coupon ~= '' then
          redis.call('HINCRBY', KEYS[8], coupon, 1)
          redis.call('HINCRBY', KEYS[8], coupon .. '|' .. buyer, 1)
          redis.call('HINCRBY', KEYS[9], coupon .. '|', 1)
          redis.call('HINCRBY', KEYS[9], coupon .. '|' .. buyer, 1)
        end
        if state == 'S' then
          if returned ~= '' then count(state, false, buyer, returned, -1) end
        else
          redis.call('ZADD', KEYS[5], 0, string.format('%s|%016.0f|%s', buyer, tonumber(made), id))
          if state == 'W' then
            local line = tonumber(string.match(units, '^(%d+):') or 0)
            redis.call('ZADD', KEYS[7], 0, string.format('%03d|%016.0f|%s', line, tonumber(made), id))
          elseif state ~= 'C' then
            redis.call('ZADD', KEYS[4], number(deadline), id)
          end
        end
      end
      sequence = sequence + 1
      added[#added + 1] = id
      added[#added + 1] = text
    end
  end
  sequence = sequence + 1
  redis.call('HSET', KEYS[1], 'hold_ms', ARGV[TERMS], 'pay_ms', ARGV[TERMS + 1], 'opens_at', ARGV[TERMS + 2],
    'closes_at', ARGV[TERMS + 3], 'paused', ARGV[TERMS + 4], 'mode', ARGV[TERMS + 5], 'early', ARGV[TERMS + 6],
    'offer_ms', ARGV[TERMS + 7], 'draw_ms', ARGV[TERMS + 8], 'more', more, 'sequence', number(sequence), 'clock', number(now))
  for line = 0, more do
    redis.call('HSET', KEYS[1], 'stock' .. of(line), ARGV[LINES + 2 * line],
      'per_buyer' .. of(line), ARGV[LINES + 2 * line + 1], 'held' .. of(line), number(held[line]),
      'sold' .. of(line), number(sold[line]))
  end
  if ARGV[2] == '1' then
    redis.call('HDEL', KEYS[1], 'frozen')
  else
    redis.call('HSET', KEYS[1], 'frozen', number(now))
  end
  local keep_ms = number(math.max(tonumber(ARGV[TERMS + 3]) - now, 0) + tonumber(ARGV[6]))
  for i = 1, 8 do redis.call('PEXPIRE', KEYS[i], keep_ms) end
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local next_deadline = redis.call('ZCARD', KEYS[7]) > 0 and now or tonumber(first[2] or -1)
local reply = {now, epoch, sequence, next_deadline, 1 + more}
for line = 0, more do
  reply[#reply + 1] = stock[line] - held[line] - sold[line]
  reply[#reply + 1] = held[line]
  reply[#reply + 1] = sold[line]
end
reply[#reply + 1] = 0
reply[#reply + 1] = 0
reply[#reply + 1] = #added / 2
for i = 1, #added do reply[#reply + 1] = added[i] end
return reply
