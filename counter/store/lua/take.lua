-- Leases the store to a holder, unless another one has it.
-- KEYS: lease. ARGV: holder, lease in ms.
-- Returns nothing, or the other holder and how many ms its lease lasts.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return {holder, redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {}
