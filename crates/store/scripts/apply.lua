-- Carries out operations on one sale. SaleBook::apply in haul-commerce defines what it answers.
--
-- KEYS  1 sale (hash)  2 holds (hash)  3 buyers (hash)  4 deadlines (sorted set)  5 standing (sorted set)
--       6 over (sorted set)
-- ARGV  1 most due holds to release  2 clock mark in ms (0: write the clock in any case)  3 largest quantity
--       4, 5 epoch and sequence that the caller has seen  6, 7 ms for which a hold that is over is kept, without an
--       order and with one  8 most holds to forget  9 ms for which a sale is kept after it closed
--       then for each operation five: kind, hold, buyer, quantity, order (empty or 0 where it has none)
-- Reply now, epoch, sequence, available, held, sold, next deadline (-1: none),
--       number of holds released, for each of them four: hold, buyer, quantity, order,
--       number of holds changed or named, for each of them two: hold, what is written of it,
--       for each operation two: code, number
--       or, where the sale is behind what was seen or frozen: -1, epoch, sequence
--
-- A hold is written as state|quantity|deadline|made|flags|buyer|order (no id has a bar). States: H held, P paying,
-- C captured, S sold, R released, L late. Deadline: of R and L, when they ended. Made: the sequence then. Flags:
-- 1 deadline extended, 2 taken again. Over has R and L by the time at which they may be forgotten.
-- Standing (H, P, C) is buyer|made|hold at score 0, to be read by range: a buyer's holds, oldest first.
-- Everything is read and decided first and written at the end, so that an error on the way changes nothing.

local MAX_SWEEP, CLOCK_MARK_MS, MAX_QUANTITY = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local SEEN_EPOCH, SEEN_SEQUENCE = tonumber(ARGV[4]), tonumber(ARGV[5])
local KEEP_RELEASED_MS, KEEP_ORDERED_MS = tonumber(ARGV[6]), tonumber(ARGV[7])
local MAX_FORGET, KEEP_SALE_MS = tonumber(ARGV[8]), tonumber(ARGV[9])
local FIRST, WIDTH = 10, 5
local CHUNK = 200 -- arguments of one command; Lua's stack holds a few thousand
local HELD, PAYING, CAPTURED, SOLD, RELEASED, RESTORED, LATE = 1, 2, 3, 4, 5, 6, 7
local UNKNOWN_SALE, UNKNOWN_HOLD, NOT_OPEN, CLOSED, NOT_ENOUGH = -1, -2, -3, -4, -5
local SOLD_OUT, BUYER_LIMIT, KEY_REUSED, WRONG_STATE, BAD_QUANTITY = -6, -7, -8, -9, -10

local sale = redis.call('HMGET', KEYS[1], 'stock', 'per_buyer', 'hold_ms', 'pay_ms', 'opens_at', 'closes_at', 'held',
  'sold', 'sequence', 'clock', 'epoch', 'frozen')
for i = 1, #sale do sale[i] = tonumber(sale[i]) end
local stock, per_buyer, hold_ms, pay_ms, opens_at, closes_at = unpack(sale, 1, 6)
local before, mark = sale[9] or 0, sale[10] or 0
local sequence, now = before, math.max(clock(), mark)
local epoch = sale[11] or 0

if sale[12] or epoch < SEEN_EPOCH or (epoch == SEEN_EPOCH and sequence < SEEN_SEQUENCE) then
  return {-1, epoch, sequence}
end
if not stock then
  local reply = {now, 0, 0, 0, 0, 0, -1, 0, 0}
  for _ = FIRST, #ARGV, WIDTH do
    reply[#reply + 1] = UNKNOWN_SALE
    reply[#reply + 1] = 0
  end
  return reply
end

local units = {held = sale[7], sold = sale[8]}
local holds = {}     -- by id, as they are now; false where there is none
local buyers = {}    -- units by buyer, as they are now
local changed_holds, changed_buyers = {}, {}
local named = {}     -- ids of holds that operations named
local forgotten, forgot = {}, false
local released = {}  -- of the reply, four each

local function number(value) return string.format('%.0f', value) end
local function available() return stock - units.held - units.sold end

-- Reads fields of a hash that are not in `into` yet.
local function read(key, fields, into, parse)
  local missing = {}
  for _, field in ipairs(fields) do
    if into[field] == nil then
      into[field] = false
      missing[#missing + 1] = field
    end
  end
  for first = 1, #missing, CHUNK do
    local last = math.min(first + CHUNK - 1, #missing)
    local values = redis.call('HMGET', key, unpack(missing, first, last))
    for i = 1, #values do into[missing[first + i - 1]] = parse(values[i]) end
  end
end

local function parse_hold(text)
  if not text then return false end
  local state, quantity, deadline, made, flags, buyer, order =
    string.match(text, '^(%u)|(%d+)|(%d+)|(%d+)|(%d)|([^|]+)|(.*)$')
  flags = tonumber(flags)
  return {state = state, quantity = tonumber(quantity), deadline = tonumber(deadline), made = tonumber(made),
    extended = flags % 2 == 1, retaken = flags >= 2, buyer = buyer, order = order}
end

local function parse_units(text) return tonumber(text or 0) end

local function used(buyer)
  read(KEYS[3], {buyer}, buyers, parse_units)
  return buyers[buyer]
end

local PLACE = {H = 'held', P = 'held', C = 'held', S = 'sold'}
local function has_deadline(hold) return hold.state == 'H' or hold.state == 'P' end

local function count(hold, sign)
  local place = PLACE[hold.state]
  if place then
    units[place] = units[place] + sign * hold.quantity
    buyers[hold.buyer] = used(hold.buyer) + sign * hold.quantity
    changed_buyers[hold.buyer] = true
  end
end

-- The one place where units move.
local function change(id, hold, state)
  count(hold, -1)
  hold.state = state
  count(hold, 1)
  holds[id] = hold
  changed_holds[id] = true
  sequence = sequence + 1
end

local function forget_at(hold)
  return hold.deadline + (hold.order ~= '' and KEEP_ORDERED_MS or KEEP_RELEASED_MS)
end

-- A hold that has been over for long is none.
local function forget(id)
  local hold = holds[id]
  if hold and (hold.state == 'R' or hold.state == 'L') and forget_at(hold) <= now then
    holds[id] = false
    forgotten[id], forgot = true, true
  end
end

local function expire(id)
  local hold = holds[id]
  if hold and has_deadline(hold) and hold.deadline <= now then
    hold.deadline = now
    change(id, hold, 'R')
    local n = #released
    released[n + 1], released[n + 2], released[n + 3], released[n + 4] = id, hold.buyer, hold.quantity, hold.order
  end
end

local function within_limit(buyer, quantity) return used(buyer) + quantity <= per_buyer end

local function make_hold(id, buyer, quantity)
  local hold = holds[id]
  if hold then
    if hold.buyer ~= buyer or hold.quantity ~= quantity then return KEY_REUSED, 0 end
    if hold.state == 'H' then return HELD, hold.deadline end
    if hold.state == 'P' then return PAYING, hold.deadline end
    if hold.state == 'C' then return CAPTURED, hold.retaken and 1 or 0 end
    if hold.state == 'S' then return SOLD, 0 end
    return RELEASED, 0
  end
  if quantity < 1 or quantity > MAX_QUANTITY then return BAD_QUANTITY, 0 end
  if now < opens_at then return NOT_OPEN, opens_at end
  if now >= closes_at then return CLOSED, 0 end
  if available() == 0 and units.held == 0 then return SOLD_OUT, 0 end
  if not within_limit(buyer, quantity) then return BUYER_LIMIT, per_buyer end
  if quantity > available() then return NOT_ENOUGH, available() end
  hold = {quantity = quantity, deadline = now + hold_ms, made = sequence + 1, extended = false, retaken = false,
    buyer = buyer, order = ''}
  change(id, hold, 'H')
  return HELD, hold.deadline
end

-- Any operation but H (hold): X cancel, P start payment, F payment failed, C capture, S settle.
local function step(kind, id, hold, order)
  local code, value, state = nil, 0, nil
  if hold.state == 'S' then return SOLD, 0 end
  if kind == 'S' and hold.state == 'C' then
    state, code = 'S', SOLD
  elseif hold.state == 'C' then
    return CAPTURED, hold.retaken and 1 or 0
  elseif kind == 'C' and hold.state == 'L' then
    return LATE, 0
  elseif kind == 'C' and hold.state == 'R' then
    if hold.quantity <= available() and within_limit(hold.buyer, hold.quantity) then
      hold.retaken = true
      state, code, value = 'C', CAPTURED, 1
    else
      hold.deadline = now
      state, code = 'L', LATE
    end
  elseif hold.state == 'R' or hold.state == 'L' then
    return RELEASED, 0
  elseif kind == 'C' then
    state, code = 'C', CAPTURED
  elseif kind == 'X' then
    hold.deadline = now
    state, code = 'R', RELEASED
  elseif kind == 'P' and hold.state == 'P' then
    return PAYING, hold.deadline
  elseif kind == 'P' then
    if not hold.extended then
      hold.deadline = math.max(hold.deadline, now + pay_ms)
      hold.extended = true
    end
    state, code, value = 'P', PAYING, hold.deadline
  elseif kind == 'F' and hold.state == 'P' then
    state, code, value = 'H', RESTORED, hold.deadline
  elseif kind == 'F' and hold.order ~= '' then
    return RESTORED, hold.deadline
  else
    return WRONG_STATE, 0
  end
  if order ~= '' then hold.order = order end
  change(id, hold, state)
  return code, value
end

local function carry_out(kind, id, buyer, quantity, order)
  expire(id)
  forget(id)
  named[id] = true
  if kind == 'H' then return make_hold(id, buyer, quantity) end
  local hold = holds[id]
  if not hold or (buyer ~= '' and buyer ~= hold.buyer) then return UNKNOWN_HOLD, 0 end
  if order ~= '' and hold.order ~= '' and order ~= hold.order then return KEY_REUSED, 0 end
  return step(kind, id, hold, order)
end

-- Release what is due.
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', number(now), 'LIMIT', 0, MAX_SWEEP)
if #due > 0 then
  read(KEYS[2], due, holds, parse_hold)
  local theirs = {}
  for i, id in ipairs(due) do theirs[i] = holds[id].buyer end
  read(KEYS[3], theirs, buyers, parse_units)
  for _, id in ipairs(due) do expire(id) end
end

-- Forget what has been over for long.
local old = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', number(now), 'LIMIT', 0, MAX_FORGET)
for _, id in ipairs(old) do
  holds[id] = false
  forgotten[id], forgot = true, true
end

-- Carry out the operations.
local ids, theirs = {}, {}
for i = FIRST, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[i + 1]
  if ARGV[i] == 'H' then theirs[#theirs + 1] = ARGV[i + 2] end
end
read(KEYS[2], ids, holds, parse_hold)
if available() > 0 then read(KEYS[3], theirs, buyers, parse_units) end
local outcomes = {}
for i = FIRST, #ARGV, WIDTH do
  local code, value = carry_out(ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4])
  outcomes[#outcomes + 1] = code
  outcomes[#outcomes + 1] = value
end

-- Write down what changed.
local function write(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end
local function written(hold)
  local flags = (hold.extended and 1 or 0) + (hold.retaken and 2 or 0)
  return hold.state .. '|' .. number(hold.quantity) .. '|' .. number(hold.deadline) .. '|' .. number(hold.made) .. '|' ..
    flags .. '|' .. hold.buyer .. '|' .. hold.order
end
local hold_fields, buyer_fields, deadlines, ended, standing, fallen = {}, {}, {}, {}, {}, {}
local over, not_over = {}, {}
for id in pairs(forgotten) do not_over[#not_over + 1] = id end
write('HDEL', KEYS[2], not_over)
for id in pairs(changed_holds) do
  local hold = holds[id]
  hold_fields[#hold_fields + 1] = id
  hold_fields[#hold_fields + 1] = written(hold)
  if has_deadline(hold) then
    deadlines[#deadlines + 1] = number(hold.deadline)
    deadlines[#deadlines + 1] = id
  else
    ended[#ended + 1] = id
  end
  local member = string.format('%s|%016.0f|%s', hold.buyer, hold.made, id)
  if PLACE[hold.state] == 'held' then
    standing[#standing + 1] = 0
    standing[#standing + 1] = member
  else
    fallen[#fallen + 1] = member
  end
  if hold.state == 'R' or hold.state == 'L' then
    over[#over + 1] = number(forget_at(hold))
    over[#over + 1] = id
  elseif hold.retaken then
    not_over[#not_over + 1] = id
  end
end
for buyer in pairs(changed_buyers) do
  buyer_fields[#buyer_fields + 1] = buyer
  buyer_fields[#buyer_fields + 1] = number(buyers[buyer])
end
write('HSET', KEYS[2], hold_fields)
write('HSET', KEYS[3], buyer_fields)
write('ZADD', KEYS[4], deadlines)
write('ZREM', KEYS[4], ended)
write('ZADD', KEYS[5], standing)
write('ZREM', KEYS[5], fallen)
write('ZREM', KEYS[6], not_over)
write('ZADD', KEYS[6], over)
if sequence ~= before then
  redis.call('HSET', KEYS[1], 'held', number(units.held), 'sold', number(units.sold), 'sequence', number(sequence),
    'clock', number(now))
  -- Whatever becomes of the sale, its keys don't stay for good.
  local keep_ms = number(math.max(closes_at - now, 0) + KEEP_SALE_MS)
  for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], keep_ms) end
elseif forgot or now >= mark + CLOCK_MARK_MS then
  redis.call('HSET', KEYS[1], 'clock', number(now))
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local reply = {now, epoch, sequence, available(), units.held, units.sold, tonumber(first[2] or -1), #released / 4}
for i = 1, #released do reply[#reply + 1] = released[i] end
for id in pairs(changed_holds) do named[id] = true end
local count = #reply + 1
reply[count] = 0
for id in pairs(named) do
  if holds[id] then
    reply[count] = reply[count] + 1
    reply[#reply + 1] = id
    reply[#reply + 1] = written(holds[id])
  end
end
for i = 1, #outcomes do reply[#reply + 1] = outcomes[i] end
return reply
