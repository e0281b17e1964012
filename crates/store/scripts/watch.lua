-- Refuses to decide by a clock that has jumped forward. Stands after the clock, before every other script, and takes the
-- last argument from them: the latest time that the clock can show (empty: whatever it shows).
-- Reply where it is later: -2, what the clock shows
local latest = tonumber(table.remove(ARGV))
if latest and clock() > latest then return {-2, clock()} end
