-- The gate's clock: milliseconds since 1970 by this server. Stands before every other script.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
