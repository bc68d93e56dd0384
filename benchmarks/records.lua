-- POST /visits over and over. Arguments: json or ndjson, how many videos, how many records a
-- request, the nodes' token. The videos of a record are random, from a seed, so that all contenders get the same.
dofile("benchmarks/outcome.lua")
local requests, at, bodies = {}, 0, 0

local function body(form, videos, records)
   local lines = {}
   for number = 1, records do
      local video = math.random(0, videos - 1)
      lines[number] = string.format('{"video":"video-%05d","count":1}', video)
   end
   if form == "json" then
      return "[" .. table.concat(lines, ",") .. "]"
   end
   return table.concat(lines, "\n") .. "\n"
end

function init(args)
   math.randomseed(1)
   local kind = args[1] == "json" and "application/json" or "application/x-ndjson"
   -- So many that nearly all of the videos are posted.
   bodies = math.max(32, math.ceil(5 * tonumber(args[2]) / tonumber(args[3])))
   for number = 0, bodies - 1 do
      local text = body(args[1], tonumber(args[2]), tonumber(args[3]))
      requests[number] = wrk.format("POST", "/visits", {["Content-Type"] = kind, ["Authorization"] = "Bearer " .. args[4]}, text)
   end
end

function request()
   at = (at + 1) % bodies
   return requests[at]
end
