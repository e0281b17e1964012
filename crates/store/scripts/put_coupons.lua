-- Makes coupons of a live known; of known ones, changes what may change. CouponTerms::changed_to in haul-commerce defines it.
--
-- KEYS  1 the live's coupons (hash), as apply.lua has them
-- ARGV  1 ms for which they are kept after they are valid, then for each coupon six: code, limit, uses of one buyer, valid
--       from, valid until, closed (0 or 1)
-- Reply 0
--
-- Terms are written as limit|per_buyer|from|until|closed.
local KEEP_MS = tonumber(ARGV[1])
local now = clock()
local last = now
for i = 2, #ARGV, 6 do
  local code, limit, per_buyer, from, till, closed = unpack(ARGV, i, i + 5)
  local known = redis.call('HGET', KEYS[1], code)
  if known then
    local known_limit, known_per_buyer, known_from, known_till, known_closed =
      string.match(known, '^(%d+)|(%d+)|(%d+)|(%d+)|(%d)$')
    if tonumber(known_limit) > tonumber(limit) then limit = known_limit end
    if known_closed == '1' then closed = '1' end
    per_buyer, from, till = known_per_buyer, known_from, known_till
  end
  redis.call('HSET', KEYS[1], code, table.concat({limit, per_buyer, from, till, closed}, '|'))
  last = math.max(last, tonumber(till))
end
local keep_ms = last - now + KEEP_MS
if redis.call('PTTL', KEYS[1]) < keep_ms then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep_ms)) end
return 0
