-- Some rows of a vector. It does what HSCAN does, but an answer of a few long texts is read faster.
-- KEYS: the hash of the vector. ARGV: a cursor, about how many rows.
-- Returns the next cursor, how many rows there are, their ids each with a NUL at its end, and their
-- counts with commas between them.
local cursor, rows = unpack(redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local ids, counts = {}, {}
for at = 1, #rows, 2 do
    ids[#ids + 1], counts[#counts + 1] = rows[at], rows[at + 1]
end
ids[#ids + 1] = ''
return {cursor, #counts, table.concat(ids, '\0'), table.concat(counts, ',')}
