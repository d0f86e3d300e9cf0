-- Ten thousand hosts in turn: where there are as many rules, each request is decided by another one.
local n = 0
request = function()
  n = (n + 1) % 10000
  wrk.headers["Host"] = "h" .. n .. ".example.org" -- beside what the command line asks for
  return wrk.format("GET", "/")
end
