-- From format 1 or 2, which had no seals, or 3, which named folded vectors with their marks, to 4.
-- KEYS: lease, store, facts, vectors, what was replicas in format 1,
--       then the hashes of vectors: those to be renamed, each with its new one, and to be dropped.
-- ARGV: holder, name, whether there are seals (1), the sum of seals or '' for a damaged row,
--       how many vectors are renamed, their old and new ids in pairs, and the ids that are dropped.
-- Returns 0 if the lease ran out, 1 when it is done. A damaged row stays as it is.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[5]) == 1 then
    redis.call('SUNIONSTORE', KEYS[4], KEYS[4], KEYS[5])
    redis.call('DEL', KEYS[5])
end
local seals = tonumber(ARGV[4] ~= '' and ARGV[4] or 'none', 16)
if ARGV[3] ~= '1' then
    seals = 0
    local facts = redis.call('HGETALL', KEYS[3])
    for at = 1, #facts, 2 do
        local digits = seal(facts[at], facts[at + 1])
        seals = (seals + tonumber(digits, 16)) % 281474976710656
        redis.call('HSET', KEYS[3], facts[at], digits .. facts[at + 1])
    end
end
local renamed = tonumber(ARGV[5])
for pair = 0, renamed - 1 do
    local old, new = ARGV[6 + 2 * pair], ARGV[7 + 2 * pair]
    if redis.call('EXISTS', KEYS[6 + 2 * pair]) == 1 then
        redis.call('RENAMENX', KEYS[6 + 2 * pair], KEYS[7 + 2 * pair])
    end
    redis.call('SREM', KEYS[4], old)
    redis.call('SADD', KEYS[4], new)
end
for at = 6 + 2 * renamed, #KEYS do
    redis.call('UNLINK', KEYS[at])
    redis.call('SREM', KEYS[4], ARGV[at])
end
if seals then
    local row = redis.call('HMGET', KEYS[2], 'id', 'name', 'mark')
    put_row(KEYS[2], row[1] or '', row[2] or ARGV[2], row[3] or '', seals)
end
return 1
