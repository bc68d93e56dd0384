-- One flush: checks lease and flush mark, then writes everything in one atomic step.
-- KEYS: lease, store, vectors, facts, days, then the hashes of vectors: those to be dropped first, then
--       each that is written, with those from which what is written is removed.
-- ARGV: holder, lease in ms, id, name, mark,
--       the marks that are right, each between two ends of lines ('*': any),
--       with "=" before it another mark that is right, or '',
--       how many vectors are dropped, and their ids,
--       how many facts follow, and these as name, fact, ...
--       the oldest day of which sketches are kept, how many days have new ones, and for each day
--       its number, how many sketches, and these as video, head, sketch, ...
--       then for each vector its id, its counts as a JSON object, and from how many others these
--       are removed.
-- Returns 'written', or 'taken' and the other holder, or 'forgot' and the mark that was found.
-- UNLINK frees the memory of a large hash in another thread.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {'taken', holder} end
local stands = redis.call('HMGET', KEYS[2], 'mark', 'sealed')
local sealed = stands[2]
if ARGV[6] ~= '*' then
    local mark = stands[1] or ''
    local right = string.find(ARGV[6], '\n' .. mark .. '\n', 1, true)
    if not right and ARGV[7] ~= '=' .. mark then return {'forgot', mark} end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local seals = sealed and tonumber(string.sub(sealed, -12), 16)
if not seals then
    seals = 0
    for _, fact in ipairs(redis.call('HVALS', KEYS[4])) do
        seals = (seals + (tonumber(string.sub(fact, 1, 12), 16) or 0)) % 281474976710656
    end
end
local dropped = tonumber(ARGV[8])
local at = 9
for k = 6, 5 + dropped do
    redis.call('UNLINK', KEYS[k])
    redis.call('SREM', KEYS[3], ARGV[at])
    at = at + 1
end
local facts = tonumber(ARGV[at])
at = at + 1
for _ = 1, facts do
    local name, text = ARGV[at], ARGV[at + 1]
    local before = redis.call('HGET', KEYS[4], name)
    if before then seals = seals - (tonumber(string.sub(before, 1, 12), 16) or 0) end
    if text == '' then
        redis.call('HDEL', KEYS[4], name)
    else
        local digits = seal(name, text)
        seals = seals + tonumber(digits, 16)
        redis.call('HSET', KEYS[4], name, digits .. text)
    end
    seals = seals % 281474976710656
    at = at + 2
end
put_row(KEYS[2], ARGV[3], ARGV[4], ARGV[5], seals)
local oldest, days = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
at = at + 2
for _ = 1, days do
    local day = KEYS[5] .. ':' .. ARGV[at]
    redis.call('SADD', KEYS[5], ARGV[at])
    local last = at + 3 * tonumber(ARGV[at + 1])
    for sketch = at + 2, last, 3 do
        redis.call('HSET', day, ARGV[sketch], ARGV[sketch + 2])
        redis.call('HSET', day .. ':heads', ARGV[sketch], ARGV[sketch + 1])
    end
    at = last + 2
end
if oldest > 0 then
    for _, day in ipairs(redis.call('SMEMBERS', KEYS[5])) do
        if tonumber(day) < oldest then
            redis.call('UNLINK', KEYS[5] .. ':' .. day, KEYS[5] .. ':' .. day .. ':heads')
            redis.call('SREM', KEYS[5], day)
        end
    end
end
local k = 6 + dropped
while k <= #KEYS do
    redis.call('SADD', KEYS[3], ARGV[at])
    local counts, others = cjson.decode(ARGV[at + 1]), tonumber(ARGV[at + 2])
    at = at + 3
    local videos = {}
    for video in pairs(counts) do videos[#videos + 1] = video end
    for first = 1, #videos, 500 do
        local last = math.min(first + 499, #videos)
        local stored = redis.call('HMGET', KEYS[k], unpack(videos, first, last))
        local larger = {}
        for i = first, last do
            local count, before = counts[videos[i]], tonumber(stored[i - first + 1] or nil)
            if not before or count > before then
                larger[#larger + 1] = videos[i]
                larger[#larger + 1] = string.format('%.0f', count)
            end
        end
        if #larger > 0 then redis.call('HSET', KEYS[k], unpack(larger)) end
        for other = k + 1, k + others do
            redis.call('HDEL', KEYS[other], unpack(videos, first, last))
        end
    end
    k = k + 1 + others
end
return {'written'}
