-- Put before write.lua and upgrade.lua: seals of facts, and the sealed row.
-- A fact is kept behind its seal; see counter/store/seals.py.
local function seal(name, text)
    return string.sub(redis.sha1hex(name .. '\0' .. text), 1, 12)
end
local function put_row(key, id, name, mark, seals)
    local row = table.concat({id, name, mark, '4', string.format('%012x', seals % 281474976710656)},
        '\n')
    redis.call('HSET', key, 'id', id, 'name', name, 'mark', mark, 'version', '4',
        'sealed', seal('sealed', row) .. row)
end
