-- The same, and one header that is never the same: a trace context, as instrumented clients send.
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/api/v1/users/" .. n .. "?q=" .. n, {
    ["Host"] = "app.example.org",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    ["Accept"] = "text/html,application/json;q=0.9",
    ["Accept-Encoding"] = "gzip, br",
    ["Cookie"] = "session=abcdef0123456789; theme=dark",
    ["traceparent"] = string.format("00-0af7651916cd43dd%016x-b7ad6b7169203331-01", n),
  })
end
