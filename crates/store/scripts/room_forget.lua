-- KEYS: told, lines, chat, changes, asked. ARGV: their id, which a text about them has in it, between characters of no id.
-- Where any text of the room's past has it, all of that past goes: what comes back then begins with a snapshot. Of what was asked,
-- which the owner may still have to read, only what has it goes.
local function has(text)
  local from, to = string.find(text, ARGV[1], 1, true)
  while from do
    local around = string.sub(text, from - 1, from - 1) .. string.sub(text, to + 1, to + 1)
    if not string.find(around, '[%w_.:@-]') then return true end
    from, to = string.find(text, ARGV[1], to + 1, true)
  end
  return false
end
local function drop(key, ids)
  for from = 1, #ids, 1000 do
    redis.call('XDEL', key, unpack(ids, from, math.min(from + 999, #ids)))
  end
end
local asked = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[5], '-', '+')) do
  if has(entry[2][2]) then asked[#asked + 1] = entry[1] end
end
drop(KEYS[5], asked)
local found, told = false, {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  told[#told + 1] = entry[1]
  found = found or has(entry[2][2])
end
for list = 2, 4 do
  for _, text in ipairs(found and {} or redis.call('LRANGE', KEYS[list], 0, -1)) do
    if has(text) then
      found = true
      break
    end
  end
end
if not found then return 0 end
drop(KEYS[1], told)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return 1
