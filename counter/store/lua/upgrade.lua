-- From format 1 or 2, which had no seals, to format 3.
-- KEYS: lease, store, facts, vectors, what was replicas in format 1. ARGV: holder, name.
-- Returns 0 if the lease ran out, 1 when it is done.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[5]) == 1 then
    redis.call('SUNIONSTORE', KEYS[4], KEYS[4], KEYS[5])
    redis.call('DEL', KEYS[5])
end
local seals, facts = 0, redis.call('HGETALL', KEYS[3])
for at = 1, #facts, 2 do
    local digits = seal(facts[at], facts[at + 1])
    seals = (seals + tonumber(digits, 16)) % 281474976710656
    redis.call('HSET', KEYS[3], facts[at], digits .. facts[at + 1])
end
local row = redis.call('HMGET', KEYS[2], 'id', 'name', 'mark')
put_row(KEYS[2], row[1] or '', row[2] or ARGV[2], row[3] or '', seals)
return 1
