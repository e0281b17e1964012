-- KEYS: room, lease. ARGV: term.
if redis.call('HGET', KEYS[1], 'term') == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
