-- GET /hit/<id> of videos chosen at random. Arguments: how many videos, and for how many
-- milliseconds each connection waits after an answer (0 if there is none).
local requests = {}

function init(args)
   for number = 1, tonumber(args[1]) do
      requests[number] = wrk.format("GET", string.format("/hit/video-%05d", number - 1))
   end
   local pause = tonumber(args[2] or 0)
   if pause > 0 then -- wrk is slower as soon as there is such a function
      delay = function() return pause end
   end
end

function request()
   return requests[math.random(#requests)]
end

dofile("benchmarks/outcome.lua")
