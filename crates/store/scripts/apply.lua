-- Carries out operations on one sale. SaleBook::apply in haul-commerce defines what it answers.
--
-- KEYS  1 sale (hash)  2 holds (hash)  3 buyers (hash)  4 deadlines (sorted set)  5 standing (sorted set)
--       6 over (sorted set)  7 waiting (sorted set)  8 the sale's uses of coupons (hash)  9 the live's coupons (hash)
-- ARGV  1 most due holds to release  2 clock mark in ms (0: write the clock in any case)  3 largest quantity
--       4, 5 epoch and sequence that the caller has seen  6, 7 ms for which a hold that is over is kept, without an
--       order and with one  8 most holds to forget  9 ms for which a sale is kept after it closed
--       10 most who wait in line  11 most of them to serve  12 most entries in a draw
--       then for each operation five: kind, hold, buyer, units, order (empty or 0 where it has none; of a hold, the
--       buyer's tier). A kind may be followed by the ticket of a draw and by a coupon, with a bar before each.
-- Reply now, epoch, sequence, next deadline (-1: none),
--       number of lines, for each of them three: available, held, sold,
--       number of holds released, for each of them four: hold, buyer, units, order,
--       number of holds offered, for each of them four: hold, buyer, units, deadline,
--       number of holds changed or named, for each of them two: hold, what is written of it,
--       for each operation two: code, number (where it is about a line: the line times 2^24 besides)
--       or, where the sale is behind what was seen or frozen: -1, epoch, sequence
--
-- A hold is written as state|units|deadline|made|flags|buyer|order|returned|coupon (no id has a bar). States: H held, P paying,
-- C captured, S sold, R released, L late, W waiting. Units are a number of line 0, or line:number joined by +. Deadline: of R and L,
-- when they ended; of W, when it came. Made: the sequence then; of an entry in a draw, its ticket. Flags: 1 deadline extended, 2 taken again, 4 nothing is set aside before it is
-- paid. Returned: units of S that have come back, with the bar before it only where there are some, or a coupon. Over has R and L by the time at which they may be forgotten.
-- Of line 0 the sale has stock, per_buyer, held and sold; of line n they are stock:n and so on, and `more` says how many
-- such lines there are. Buyers has units of line 0 by buyer, of line n by buyer|n.
-- Waiting is line|made|hold at score 0, to be read by range: a line's, in their order.
-- Standing (H, P, C, W) is buyer|made|hold at score 0, to be read by range: a buyer's holds, oldest first.
-- Coupons of the live are written by put_coupons.lua; beside their terms there are their uses, as code| of all and code|buyer
-- of one. The sale's uses are code and code|buyer, so that they can be taken back when it is rebuilt.
-- Everything is read and decided first and written at the end, so that an error on the way changes nothing.

local MAX_SWEEP, CLOCK_MARK_MS, MAX_QUANTITY = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local SEEN_EPOCH, SEEN_SEQUENCE = tonumber(ARGV[4]), tonumber(ARGV[5])
local KEEP_RELEASED_MS, KEEP_ORDERED_MS = tonumber(ARGV[6]), tonumber(ARGV[7])
local MAX_FORGET, KEEP_SALE_MS = tonumber(ARGV[8]), tonumber(ARGV[9])
local MAX_WAITING, MAX_OFFERS = tonumber(ARGV[10]), tonumber(ARGV[11])
local MAX_ENTRIES = tonumber(ARGV[12])
local FIRST, WIDTH = 13, 5
local TICKETS = 2251799813685248 -- 2^51: what is made from here on is an entry in a draw
local CHUNK = 200 -- arguments of one command; Lua's stack holds a few thousand
local LINE = 16777216 -- in a number, the unit of lines: more than any stock
local HELD, PAYING, CAPTURED, SOLD, RELEASED, RESTORED, LATE, RESTOCKED, WAITING, ENTERED = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local UNKNOWN_SALE, UNKNOWN_HOLD, NOT_OPEN, CLOSED, NOT_ENOUGH = -1, -2, -3, -4, -5
local SOLD_OUT, BUYER_LIMIT, KEY_REUSED, WRONG_STATE, BAD_QUANTITY = -6, -7, -8, -9, -10
local UNKNOWN_LINE, PAUSED, LINE_FULL, NO_LINE = -11, -12, -13, -14
local UNKNOWN_COUPON, COUPON_NOT_YET, COUPON_OVER, COUPON_USED_UP = -15, -16, -17, -18
local COUPON_LIMIT, OTHER_COUPON, ONE_ENTRY = -19, -20, -21

local sale = redis.call('HMGET', KEYS[1], 'stock', 'per_buyer', 'hold_ms', 'pay_ms', 'opens_at', 'closes_at', 'held',
  'sold', 'sequence', 'clock', 'epoch', 'frozen', 'more', 'paused', 'mode', 'early', 'offer_ms', 'draw_ms')
local mode, early = sale[15], sale[16]
for i = 1, 14 do sale[i] = tonumber(sale[i]) end
local hold_ms, pay_ms, opens_at, closes_at = unpack(sale, 3, 6)
local more, paused, offer_ms = sale[13] or 0, sale[14] == 1, tonumber(sale[17] or '')
local draw_ms = tonumber(sale[18] or '')
local draws_at = draw_ms and opens_at + draw_ms
local before, mark = sale[9] or 0, sale[10] or 0
local sequence, now = before, math.max(clock(), mark)
local epoch = sale[11] or 0

if sale[12] or epoch < SEEN_EPOCH or (epoch == SEEN_EPOCH and sequence < SEEN_SEQUENCE) then
  return {-1, epoch, sequence}
end
if not sale[1] then
  local reply = {now, 0, 0, -1, 0, 0, 0, 0}
  for _ = FIRST, #ARGV, WIDTH do
    reply[#reply + 1] = UNKNOWN_SALE
    reply[#reply + 1] = 0
  end
  return reply
end

-- By line.
local stock, per_buyer, held, sold = {[0] = sale[1]}, {[0] = sale[2]}, {[0] = sale[7]}, {[0] = sale[8]}
if more > 0 then
  local names = {}
  for line = 1, more do
    for _, name in ipairs({'stock:', 'per_buyer:', 'held:', 'sold:'}) do names[#names + 1] = name .. line end
  end
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  for line = 1, more do
    local at = 4 * line - 4
    stock[line], per_buyer[line] = tonumber(values[at + 1]), tonumber(values[at + 2])
    held[line], sold[line] = tonumber(values[at + 3]), tonumber(values[at + 4])
  end
end
local touched = {}   -- lines whose units moved
local holds = {}     -- by id, as they are now; false where there is none
local buyers = {}    -- units by buyer, as they are now
local changed_holds, changed_buyers = {}, {}
local named = {}     -- ids of holds that operations named
local forgotten, forgot = {}, false
local released = {}  -- of the reply, four each
local offered = {}   -- likewise

local function number(value) return string.format('%.0f', value) end
local function available(line) return stock[line] - held[line] - sold[line] end

-- Units as a list of line, number, line, number; each text is read once.
local parsed = {}
local function lines_of(text)
  local list = parsed[text]
  if not list then
    list = {}
    local plain = tonumber(text)
    if plain then
      list[1], list[2] = 0, plain
    else
      for line, number in string.gmatch(text, '(%d+):(%d+)') do
        list[#list + 1] = tonumber(line)
        list[#list + 1] = tonumber(number)
      end
    end
    parsed[text] = list
  end
  return list
end
local function units_of(list, line)
  for i = 1, #list, 2 do
    if list[i] == line then return list[i + 1] end
  end
  return 0
end
local function buyers_field(buyer, line) return line == 0 and buyer or buyer .. '|' .. line end

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
  local state, units, deadline, made, flags, buyer, order, returned, coupon =
    string.match(text, '^(%u)|([^|]+)|(%d+)|(%d+)|(%d)|([^|]+)|([^|]*)|?([^|]*)|?(.*)$')
  flags = tonumber(flags)
  return {state = state, units = units, deadline = tonumber(deadline), made = tonumber(made),
    queued = state == 'W', extended = flags % 2 == 1, retaken = flags % 4 >= 2, unreserved = flags >= 4, buyer = buyer, order = order,
    returned = returned, coupon = coupon}
end

local function parse_units(text) return tonumber(text or 0) end

local function used(field)
  read(KEYS[3], {field}, buyers, parse_units)
  return buyers[field]
end

-- Uses of coupons: how they change, by code and by code|buyer.
local coupon_uses = {}
local function use(hold, sign)
  local of_buyer = hold.coupon .. '|' .. hold.buyer
  coupon_uses[hold.coupon] = (coupon_uses[hold.coupon] or 0) + sign
  coupon_uses[of_buyer] = (coupon_uses[of_buyer] or 0) + sign
end

local coupons = {} -- terms by code
local function coupon_terms(code)
  if coupons[code] == nil then
    local text = redis.call('HGET', KEYS[9], code)
    coupons[code] = false
    if text then
      local limit, per_buyer, from, till, closed = string.match(text, '^(%d+)|(%d+)|(%d+)|(%d+)|(%d)$')
      coupons[code] = {limit = tonumber(limit), per_buyer = tonumber(per_buyer), from = tonumber(from),
        till = tonumber(till), closed = closed == '1'}
    end
  end
  return coupons[code]
end

-- A refusal and its number where a coupon is used as often as it may be; nothing where it is not known.
local function coupon_left(code, buyer)
  local terms = coupon_terms(code)
  if not terms then return end
  local of_buyer = code .. '|' .. buyer
  local uses = redis.call('HMGET', KEYS[9], code .. '|', of_buyer)
  if tonumber(uses[1] or 0) + (coupon_uses[code] or 0) >= terms.limit then return COUPON_USED_UP, 0 end
  if tonumber(uses[2] or 0) + (coupon_uses[of_buyer] or 0) >= terms.per_buyer then
    return COUPON_LIMIT, terms.per_buyer
  end
end

local function may_use(code, buyer)
  local terms = coupon_terms(code)
  if not terms then return UNKNOWN_COUPON, 0 end
  if now < terms.from then return COUPON_NOT_YET, terms.from end
  if terms.closed or now >= terms.till then return COUPON_OVER, 0 end
  return coupon_left(code, buyer)
end

local STANDS = {H = true, P = true, C = true, W = true}
local function has_deadline(hold) return hold.state == 'H' or hold.state == 'P' end

local function count(hold, sign)
  if not STANDS[hold.state] and hold.state ~= 'S' then return end
  if hold.coupon ~= '' then use(hold, sign) end
  local place = held
  if hold.state == 'S' then
    place = sold
  elseif hold.unreserved or hold.state == 'W' then
    place = nil
  end
  local list, back = lines_of(hold.units), hold.returned ~= '' and lines_of(hold.returned)
  for i = 1, #list, 2 do
    local line, number = list[i], list[i + 1]
    if back then number = number - units_of(back, line) end
    if place then
      place[line] = place[line] + sign * number
      touched[line] = true
    end
    local field = buyers_field(hold.buyer, line)
    buyers[field] = used(field) + sign * number
    changed_buyers[field] = true
  end
end

-- Those in line, as this call has changed them so far: who came, and the numbers of those who went, by line.
local came, went, in_line_before = {}, {}, {}
local total_waiting = 0
if offer_ms or draw_ms then total_waiting = redis.call('ZCARD', KEYS[7]) end
local function place_of(line, made, id) return string.format('%03d|%016.0f|%s', line, made, id) end
local function line_of(hold) return lines_of(hold.units)[1] end

local function in_line(line)
  if total_waiting == 0 then return 0 end
  if not in_line_before[line] then
    in_line_before[line] = redis.call('ZLEXCOUNT', KEYS[7], string.format('[%03d|', line), string.format('(%03d}', line))
  end
  return in_line_before[line] + #(came[line] or {}) - #(went[line] or {})
end

local function position(id, hold)
  local line, before = line_of(hold), nil
  if hold.came then
    in_line(line)
    before = in_line_before[line] + hold.came
  else
    before = redis.call('ZLEXCOUNT', KEYS[7], string.format('[%03d|', line), '[' .. place_of(line, hold.made, id))
  end
  for _, made in ipairs(went[line] or {}) do
    if made < hold.made then before = before - 1 end
  end
  return before
end

local function comes(id, hold)
  local line = line_of(hold)
  in_line(line)
  in_line_before[line] = in_line_before[line] or 0
  came[line] = came[line] or {}
  came[line][#came[line] + 1] = id
  hold.came, hold.queued = #came[line], true
  total_waiting = total_waiting + 1
end

local function goes(hold)
  local line = line_of(hold)
  in_line(line)
  went[line] = went[line] or {}
  went[line][#went[line] + 1] = hold.made
  total_waiting = total_waiting - 1
end

-- The one place where units move.
local function change(id, hold, state)
  count(hold, -1)
  if hold.state == 'W' and state ~= 'W' then goes(hold) end
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
    released[n + 1], released[n + 2], released[n + 3], released[n + 4] = id, hold.buyer, hold.units, hold.order
  end
end

-- Each of these three gives a refusal and its number, or nothing.
local function sold_out(units)
  local list = lines_of(units)
  for i = 1, #list, 2 do
    if available(list[i]) == 0 and held[list[i]] == 0 then return SOLD_OUT, 0 end
  end
end

local function over_limit(buyer, units)
  local list = lines_of(units)
  for i = 1, #list, 2 do
    local line = list[i]
    if used(buyers_field(buyer, line)) + list[i + 1] > per_buyer[line] then
      return BUYER_LIMIT, line * LINE + per_buyer[line]
    end
  end
end

local function too_few(units)
  local list = lines_of(units)
  for i = 1, #list, 2 do
    local line = list[i]
    if list[i + 1] > available(line) then return NOT_ENOUGH, line * LINE + available(line) end
  end
end

local function opens_for(tier)
  if tier ~= '' and early then
    for name, ms in string.gmatch(early, '([^,=]+)=(%d+)') do
      if name == tier then return opens_at - tonumber(ms) end
    end
  end
  return opens_at
end

-- Puts somebody at the end of a line.
local function wait(id, buyer, units)
  if not offer_ms then return NO_LINE, 0 end
  local list = lines_of(units)
  if #list ~= 2 then return BAD_QUANTITY, 0 end
  local line = list[1]
  if list[2] > available(line) + held[line] then return NOT_ENOUGH, line * LINE end
  if total_waiting >= MAX_WAITING then return LINE_FULL, 0 end
  local hold = {units = units, deadline = now, made = sequence + 1, extended = false, retaken = false,
    unreserved = false, buyer = buyer, order = '', returned = '', coupon = ''}
  change(id, hold, 'W')
  comes(id, hold)
  return WAITING, position(id, hold)
end

-- Makes an entry in the draw.
local function enter(id, buyer, units, ticket, coupon)
  if ticket == '' then return NOT_OPEN, draws_at end
  local list = lines_of(units)
  if #list ~= 2 then return BAD_QUANTITY, 0 end
  if coupon ~= '' then return OTHER_COUPON, 0 end
  for line = 0, more do
    if used(buyers_field(buyer, line)) > 0 then return ONE_ENTRY, 0 end
  end
  local code, value = over_limit(buyer, units)
  if code then return code, value end
  if total_waiting >= MAX_ENTRIES then return LINE_FULL, 0 end
  local hold = {units = units, deadline = now, made = tonumber(ticket), extended = false, retaken = false,
    unreserved = false, buyer = buyer, order = '', returned = '', coupon = ''}
  change(id, hold, 'W')
  comes(id, hold)
  return ENTERED, 0
end

local function make_hold(id, buyer, units, tier, waits, ticket, coupon)
  local hold = holds[id]
  if hold then
    -- Of a hold that is being paid, the coupon may have come with the checkout.
    local other = coupon ~= hold.coupon and (coupon ~= '' or hold.order == '')
    if hold.buyer ~= buyer or hold.units ~= units or other then
      return KEY_REUSED, 0
    end
    if hold.state == 'H' then return HELD, hold.deadline end
    if hold.state == 'P' then return PAYING, hold.deadline end
    if hold.state == 'C' then return CAPTURED, hold.retaken and 1 or 0 end
    if hold.state == 'S' then return SOLD, 0 end
    if hold.state == 'W' and hold.made >= TICKETS then return ENTERED, 0 end
    if hold.state == 'W' then return WAITING, position(id, hold) end
    return RELEASED, 0
  end
  local list = lines_of(units)
  for i = 1, #list, 2 do
    if list[i] > more then return UNKNOWN_LINE, 0 end
    if list[i + 1] < 1 or list[i + 1] > MAX_QUANTITY then return BAD_QUANTITY, 0 end
  end
  local opens = opens_for(tier)
  if now < opens then return NOT_OPEN, opens end
  if now >= closes_at then return CLOSED, 0 end
  if paused then return PAUSED, 0 end
  if draws_at and now < draws_at then return enter(id, buyer, units, ticket, coupon) end
  local code, value = sold_out(units)
  if not code then code, value = over_limit(buyer, units) end
  if not code then
    for i = 1, #list, 2 do
      if not code and in_line(list[i]) > 0 then code, value = NOT_ENOUGH, list[i] * LINE end
    end
  end
  if not code then code, value = too_few(units) end
  if code == NOT_ENOUGH and waits then return wait(id, buyer, units) end
  if not code and coupon ~= '' then code, value = may_use(coupon, buyer) end
  if code then return code, value end
  hold = {units = units, deadline = now + hold_ms, made = sequence + 1, extended = false, retaken = false,
    unreserved = mode == 'F', buyer = buyer, order = '', returned = '', coupon = coupon}
  change(id, hold, 'H')
  return HELD, hold.deadline
end

-- All units that have come back of a hold: of each line the greater number. Nothing where it never had as many.
local function all_returned(hold, returned)
  local sold_list, list = lines_of(hold.units), lines_of(returned)
  for i = 1, #list, 2 do
    if list[i + 1] > units_of(sold_list, list[i]) then return nil end
  end
  if hold.returned == '' then return returned end
  local known = lines_of(hold.returned)
  if tonumber(returned) and tonumber(hold.returned) then return number(math.max(list[2], known[2])) end
  local most, lines = {}, {}
  for _, each in ipairs({known, list}) do
    for i = 1, #each, 2 do
      if not most[each[i]] then lines[#lines + 1] = each[i] end
      most[each[i]] = math.max(most[each[i]] or 0, each[i + 1])
    end
  end
  table.sort(lines)
  for i, line in ipairs(lines) do lines[i] = number(line) .. ':' .. number(most[line]) end
  return table.concat(lines, '+')
end

-- Any operation but H (hold) and W (hold, or wait): X cancel, P start payment, F payment failed, C capture, S settle, B restock.
local function step(kind, id, hold, order, units, coupon)
  local code, value, state = nil, 0, nil
  if kind == 'B' and hold.state == 'S' then
    local returned = all_returned(hold, units)
    if not returned then return BAD_QUANTITY, 0 end
    if returned == hold.returned then return RESTOCKED, 0 end
    state, code = 'S', RESTOCKED
    count(hold, -1)
    hold.returned = returned
    count(hold, 1)
  elseif hold.state == 'S' then
    return SOLD, 0
  elseif hold.state == 'W' and kind ~= 'X' then
    return WRONG_STATE, 0
  elseif kind == 'B' and STANDS[hold.state] then
    return WRONG_STATE, 0
  elseif kind == 'S' and hold.state == 'C' then
    state, code = 'S', SOLD
  elseif hold.state == 'C' then
    return CAPTURED, hold.retaken and 1 or 0
  elseif kind == 'C' and hold.state == 'L' then
    return LATE, 0
  elseif kind == 'C' and hold.state == 'R' then
    if not over_limit(hold.buyer, hold.units) and not too_few(hold.units)
      and (hold.coupon == '' or not coupon_left(hold.coupon, hold.buyer)) then
      hold.retaken, hold.unreserved = true, false
      state, code, value = 'C', CAPTURED, 1
    else
      hold.deadline = now
      state, code = 'L', LATE
    end
  elseif hold.state == 'R' or hold.state == 'L' then
    return RELEASED, 0
  elseif kind == 'C' and hold.unreserved and too_few(hold.units) then
    hold.deadline = now
    state, code = 'L', LATE
  elseif kind == 'C' then
    if hold.unreserved then
      count(hold, -1)
      hold.unreserved = false
      count(hold, 1)
    end
    state, code = 'C', CAPTURED
  elseif kind == 'X' then
    hold.deadline = now
    state, code = 'R', RELEASED
  elseif kind == 'P' and coupon ~= '' and coupon ~= hold.coupon and (hold.coupon ~= '' or hold.order ~= '') then
    return OTHER_COUPON, 0
  elseif kind == 'P' and hold.state == 'P' then
    return PAYING, hold.deadline
  elseif kind == 'P' then
    if hold.unreserved then
      if paused then return PAUSED, 0 end
      local refusal, why = sold_out(hold.units)
      if not refusal then refusal, why = too_few(hold.units) end
      if refusal then return refusal, why end
    end
    if coupon ~= '' and hold.coupon == '' then
      local refusal, why = may_use(coupon, hold.buyer)
      if refusal then return refusal, why end
      hold.coupon = coupon
      use(hold, 1)
    end
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

local function carry_out(kind, id, buyer, units, order)
  local ticket, coupon = '', ''
  if #kind > 1 then kind, ticket, coupon = string.match(kind, '^(%u)|(%d*)|(.*)$') end
  expire(id)
  forget(id)
  named[id] = true
  if kind == 'H' or kind == 'W' then return make_hold(id, buyer, units, order, kind == 'W', ticket, coupon) end
  local hold = holds[id]
  if not hold or (buyer ~= '' and buyer ~= hold.buyer) then return UNKNOWN_HOLD, 0 end
  if order ~= '' and hold.order ~= '' and order ~= hold.order then return KEY_REUSED, 0 end
  return step(kind, id, hold, order, units, coupon)
end

-- The buyers' fields of a hold.
local function add_fields(fields, buyer, units)
  local list = lines_of(units)
  for i = 1, #list, 2 do fields[#fields + 1] = buyers_field(buyer, list[i]) end
end

-- Release what is due.
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', number(now), 'LIMIT', 0, MAX_SWEEP)
if #due > 0 then
  read(KEYS[2], due, holds, parse_hold)
  local theirs = {}
  for _, id in ipairs(due) do add_fields(theirs, holds[id].buyer, holds[id].units) end
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
  local kind = string.sub(ARGV[i], 1, 1)
  if kind == 'H' or kind == 'W' then add_fields(theirs, ARGV[i + 2], ARGV[i + 3]) end
end
read(KEYS[2], ids, holds, parse_hold)
local left = false
for line = 0, more do left = left or available(line) > 0 end
if left then read(KEYS[3], theirs, buyers, parse_units) end
local outcomes = {}
for i = FIRST, #ARGV, WIDTH do
  local code, value = carry_out(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  outcomes[#outcomes + 1] = code
  outcomes[#outcomes + 1] = value
end

-- Serve those in line.
local function release_waiting(id, hold)
  hold.deadline = now
  change(id, hold, 'R')
  local n = #released
  released[n + 1], released[n + 2], released[n + 3], released[n + 4] = id, hold.buyer, hold.units, hold.order
end

local function serve_line()
  local served = 0
  if now >= closes_at then
    local gone = 0
    for _, each in pairs(went) do gone = gone + #each end
    local ids = redis.call('ZRANGE', KEYS[7], 0, MAX_SWEEP + gone)
    for i, place in ipairs(ids) do ids[i] = string.match(place, '([^|]+)$') end
    read(KEYS[2], ids, holds, parse_hold)
    for _, id in ipairs(ids) do
      if holds[id].state == 'W' then
        if served == MAX_SWEEP then return true end
        served = served + 1
        release_waiting(id, holds[id])
      end
    end
    return false
  end
  if paused or (draws_at and now < draws_at) then return false end
  local most = draws_at and MAX_SWEEP or MAX_OFFERS
  for line = 0, more do
    if in_line(line) > 0 then
      local ids = redis.call('ZRANGEBYLEX', KEYS[7], string.format('[%03d|', line), string.format('(%03d}', line), 'LIMIT', 0,
        most + 1 + #(went[line] or {}))
      for i, place in ipairs(ids) do ids[i] = string.match(place, '([^|]+)$') end
      for _, id in ipairs(came[line] or {}) do ids[#ids + 1] = id end
      read(KEYS[2], ids, holds, parse_hold)
      for _, id in ipairs(ids) do
        local hold = holds[id]
        if hold.state == 'W' then
          local wanted = lines_of(hold.units)[2]
          -- Nobody overtakes the first of a line.
          if not draws_at and wanted > available(line) and wanted <= available(line) + held[line] then break end
          if served == most then return true end
          served = served + 1
          if wanted > available(line) then
            release_waiting(id, hold)
          else
            hold.deadline = now + (offer_ms or hold_ms)
            change(id, hold, 'H')
            local n = #offered
            offered[n + 1], offered[n + 2], offered[n + 3], offered[n + 4] = id, hold.buyer, hold.units, hold.deadline
          end
        end
      end
    end
  end
  return false
end
local serve_soon = total_waiting > 0 and serve_line()

-- Write down what changed.
local function write(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end
local function written(hold)
  local flags = (hold.extended and 1 or 0) + (hold.retaken and 2 or 0) + (hold.unreserved and 4 or 0)
  return hold.state .. '|' .. hold.units .. '|' .. number(hold.deadline) .. '|' .. number(hold.made) .. '|' ..
    flags .. '|' .. hold.buyer .. '|' .. hold.order .. ((hold.returned ~= '' or hold.coupon ~= '') and '|' .. hold.returned or '') ..
    (hold.coupon ~= '' and '|' .. hold.coupon or '')
end
local hold_fields, buyer_fields, deadlines, ended, standing, fallen = {}, {}, {}, {}, {}, {}
local over, not_over = {}, {}
local line_joined, line_left = {}, {}
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
  if STANDS[hold.state] then
    standing[#standing + 1] = 0
    standing[#standing + 1] = member
  else
    fallen[#fallen + 1] = member
  end
  if hold.queued then
    local place = place_of(line_of(hold), hold.made, id)
    if hold.state == 'W' then
      line_joined[#line_joined + 1] = 0
      line_joined[#line_joined + 1] = place
    else
      line_left[#line_left + 1] = place
    end
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
write('ZADD', KEYS[7], line_joined)
write('ZREM', KEYS[7], line_left)
for field, change in pairs(coupon_uses) do
  if change ~= 0 then
    redis.call('HINCRBY', KEYS[8], field, number(change))
    redis.call('HINCRBY', KEYS[9], string.find(field, '|', 1, true) and field or field .. '|', number(change))
  end
end
if sequence ~= before then
  local fields = {'sequence', number(sequence), 'clock', number(now)}
  for line in pairs(touched) do
    local of = line == 0 and '' or ':' .. line
    local n = #fields
    fields[n + 1], fields[n + 2] = 'held' .. of, number(held[line])
    fields[n + 3], fields[n + 4] = 'sold' .. of, number(sold[line])
  end
  write('HSET', KEYS[1], fields)
  -- Whatever becomes of the sale, its keys don't stay for good.
  local keep_ms = number(math.max(closes_at - now, 0) + KEEP_SALE_MS)
  for i = 1, 8 do redis.call('PEXPIRE', KEYS[i], keep_ms) end
elseif forgot or now >= mark + CLOCK_MARK_MS then
  redis.call('HSET', KEYS[1], 'clock', number(now))
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local next_deadline = tonumber(first[2] or -1)
if serve_soon then
  next_deadline = now
elseif total_waiting > 0 then
  local then_at = draws_at and now < draws_at and math.min(draws_at, closes_at) or closes_at
  if next_deadline == -1 or then_at < next_deadline then next_deadline = then_at end
end
local reply = {now, epoch, sequence, next_deadline, 1 + more}
for line = 0, more do
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = available(line), held[line], sold[line]
end
reply[#reply + 1] = #released / 4
for i = 1, #released do reply[#reply + 1] = released[i] end
reply[#reply + 1] = #offered / 4
for i = 1, #offered do reply[#reply + 1] = offered[i] end
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
