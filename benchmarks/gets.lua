-- GET of one video after the other. Arguments: what stands before the video in the path, how many
-- videos, and for how many milliseconds each connection waits after an answer (0 if there is none).
dofile("benchmarks/outcome.lua")
local requests, at = {}, 0

function init(args)
   for number = 0, tonumber(args[2]) - 1 do
      requests[number] = wrk.format("GET", string.format("%svideo-%05d", args[1], number))
   end
   local pause = tonumber(args[3] or 0)
   if pause > 0 then -- wrk is slower as soon as there is such a function
      delay = function() return pause end
   end
end

function request()
   at = (at + 1) % (#requests + 1)
   return requests[at]
end
