-- GET /video/<id> over and over, one video after the other. Argument: how many videos.
local requests, at = {}, 0

function init(args)
   for number = 0, tonumber(args[1]) - 1 do
      requests[number] = wrk.format("GET", string.format("/video/video-%05d", number))
   end
end

function request()
   at = (at + 1) % (#requests + 1)
   return requests[at]
end

dofile("benchmarks/outcome.lua")
