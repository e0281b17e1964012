-- A buyer's standing holds, oldest first. SaleBook::standing in haul-commerce defines what it answers.
--
-- KEYS  1 sale (hash)  2 holds (hash)  3 standing (sorted set)  4 waiting (sorted set), all as apply.lua writes them
-- ARGV  1 buyer  2 most holds to tell  3, 4 epoch and sequence that the caller has seen
-- Reply 0, then for each hold six: hold, units, code and number as apply.lua answers, order and coupon (empty for none)
--       or, where the sale is behind what was seen or frozen: -1, epoch, sequence
local sale = redis.call('HMGET', KEYS[1], 'clock', 'epoch', 'sequence', 'frozen')
local now = math.max(clock(), tonumber(sale[1] or 0))
local epoch, sequence = tonumber(sale[2] or 0), tonumber(sale[3] or 0)
local seen_epoch, seen_sequence = tonumber(ARGV[3]), tonumber(ARGV[4])
if sale[4] or epoch < seen_epoch or (epoch == seen_epoch and sequence < seen_sequence) then
  return {-1, epoch, sequence}
end
local TICKETS = 2251799813685248 -- as in apply.lua
local most, reply, offset = 1 + 6 * tonumber(ARGV[2]), {0}, 0
-- A bar ends the buyer's id, and a brace comes after the bar; no id has either.
local from, to = '[' .. ARGV[1] .. '|', '(' .. ARGV[1] .. '}'
while #reply < most do
  local members = redis.call('ZRANGEBYLEX', KEYS[3], from, to, 'LIMIT', offset, tonumber(ARGV[2]))
  if #members == 0 then break end
  offset = offset + #members
  for _, member in ipairs(members) do
    local hold = string.match(member, '([^|]+)$')
    local state, units, deadline, made, flags, order, _, coupon = string.match(redis.call('HGET', KEYS[2], hold),
      '^(%u)|([^|]+)|(%d+)|(%d+)|(%d)|[^|]+|([^|]*)|?([^|]*)|?(.*)$')
    deadline = tonumber(deadline)
    local captured = state == 'C'
    local waiting = state == 'W'
    if (captured or waiting or deadline > now) and #reply < most then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 5], reply[n + 6] = hold, units, order, coupon
      if captured then
        reply[n + 3], reply[n + 4] = 3, tonumber(flags) % 4 >= 2 and 1 or 0
      elseif waiting and tonumber(made) >= TICKETS then
        reply[n + 3], reply[n + 4] = 10, 0
      elseif waiting then
        local line = tonumber(string.match(units, '^(%d+):') or 0)
        reply[n + 3], reply[n + 4] = 9, redis.call('ZLEXCOUNT', KEYS[4], string.format('[%03d|', line),
          string.format('[%03d|%016.0f|%s', line, tonumber(made), hold))
      else
        reply[n + 3], reply[n + 4] = state == 'H' and 1 or 2, deadline
      end
    end
  end
end
return reply
