-- GET of one video after the other, each time by another viewer. Arguments: what stands before the
-- video in the path, how many videos, and how many viewers there are.
dofile("benchmarks/outcome.lua")
local before, videos, viewers, at = "", 1, 1, 0

function init(args)
   before, videos, viewers = args[1], tonumber(args[2]), tonumber(args[3])
   math.randomseed(os.time())
end

function request()
   at = (at + 1) % videos
   local viewer = math.random(0, viewers - 1)
   wrk.headers["X-Forwarded-For"] = string.format(
      "10.%d.%d.%d", math.floor(viewer / 65536) % 256, math.floor(viewer / 256) % 256, viewer % 256)
   wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
   return wrk.format("GET", string.format("%svideo-%05d", before, at))
end
