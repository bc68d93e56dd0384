-- What became of a run, as one line of JSON. Times are in microseconds.
function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"answers": %d, "microseconds": %d, "refused": %d, "broken": %d, ' ..
      '"p50": %d, "p99": %d, "longest": %d}\n',
      summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency.max))
end
