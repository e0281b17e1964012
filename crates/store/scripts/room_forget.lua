-- KEYS: told, lines, chat, changes, asked. ARGV: what a text about them has in it, until when what was asked is read (ms).
-- Where any text has it, all that is kept of the room's past goes: what comes back then begins with a snapshot.
local function has(texts)
  for _, text in ipairs(texts) do
    if string.find(text, ARGV[1], 1, true) then return true end
  end
  return false
end
local function entries(key, to)
  local ids, texts = {}, {}
  for _, entry in ipairs(redis.call('XRANGE', key, '-', to)) do
    ids[#ids + 1] = entry[1]
    texts[#texts + 1] = entry[2][2]
  end
  return ids, texts
end
local function drop(key, ids)
  for from = 1, #ids, 1000 do
    redis.call('XDEL', key, unpack(ids, from, math.min(from + 999, #ids)))
  end
end
local told, texts = entries(KEYS[1], '+')
local asked, questions = entries(KEYS[5], ARGV[2])
local found = has(texts) or has(questions)
for list = 2, 4 do
  found = found or has(redis.call('LRANGE', KEYS[list], 0, -1))
end
if not found then return 0 end
drop(KEYS[1], told)
drop(KEYS[5], asked)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return 1
