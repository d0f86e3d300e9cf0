-- A browser's headers, and a path that is never the same.
local n = 0
local headers = {
  ["Host"] = "app.example.org",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
  ["Accept"] = "text/html,application/json;q=0.9",
  ["Accept-Encoding"] = "gzip, br",
  ["Cookie"] = "session=abcdef0123456789; theme=dark",
}
request = function()
  n = n + 1
  return wrk.format("GET", "/api/v1/users/" .. n .. "?q=" .. n, headers)
end
