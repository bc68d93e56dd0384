-- Which commands the user of this connection may not run on a key, or Redis does not know.
-- KEYS: a key. ARGV: how many commands take a key, these, and then those that take none.
if not redis.acl_check_cmd then return {} end
local refused = {}
for at = 2, #ARGV do
    local known, allowed
    if at <= tonumber(ARGV[1]) + 1 then
        known, allowed = pcall(redis.acl_check_cmd, ARGV[at], KEYS[1], KEYS[1])
    else
        -- A command has a subcommand behind a bar.
        local command, of = string.match(ARGV[at], '^([^|]+)|?(.*)$')
        known, allowed = pcall(redis.acl_check_cmd, command, of)
    end
    if not (known and allowed) then refused[#refused + 1] = ARGV[at] end
end
return refused
