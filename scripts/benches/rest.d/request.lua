-- Requests for wrk: KIND is what is asked, TOKENS a file with a user's token a line. Says at the end what it saw.
local kind, tokens = os.getenv("KIND"), {}
for token in io.lines(os.getenv("TOKENS")) do
  tokens[#tokens + 1] = token
end

function setup(thread)
  thread:set("seed", os.time())
end

function init()
  math.randomseed(seed)
end

local made = {
  single = function(user)
    local id = (user + 99) % 100 + 1 + 100 * math.random(0, 199)
    return "GET", "/bench_items?select=id,name,amount&id=eq." .. id
  end,
  list = function()
    return "GET", "/bench_items?select=id,name,amount,group:bench_groups(name)&order=id.desc&limit=50"
  end,
  insert = function()
    return "POST", "/bench_notes", '{"name":"a note","amount":' .. math.random(0, 999) .. "}"
  end,
  -- A statement that nobody has asked before.
  shape = function()
    return "GET", "/bench_items?select=a" .. math.random(0, 2 ^ 31) .. ":id&limit=1"
  end,
}

local base = wrk.path:gsub("/$", "")

function request()
  local user = math.random(0, 99)
  local method, path, body = made[kind](user)
  return wrk.format(method, base .. path, {
    ["Authorization"] = "Bearer " .. tokens[user + 1],
    ["Content-Type"] = "application/json",
    ["Prefer"] = "return=representation",
  }, body)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local ms = function(percentile) return latency:percentile(percentile) / 1000 end
  print(string.format("saw %d %d %.3f %.3f %d",
    summary.requests, summary.duration, ms(50), ms(99), failed))
end
