-- --- bits ---------------------------------------------------------------------------------------------------------
-- Numbers are doubles, exact up to 2^53: sums and products are used instead of shifts.

local Bits = {}
Bits.__index = Bits

local function bits_of(range)
    return setmetatable({ text = range:raw(), at = 0, size = range:len() * 8 }, Bits)
end

function Bits:get(n)
    if self.at + n > self.size then
        refuse("length", "the batch ends early")
    end
    local value = 0
    while n > 0 do
        local have = 8 - self.at % 8
        local take = n < have and n or have
        local byte = self.text:byte(math.floor(self.at / 8) + 1)
        value = value * 2 ^ take + math.floor(byte / 2 ^ (have - take)) % 2 ^ take
        self.at = self.at + take
        n = n - take
    end
    return math.floor(value) -- an integer in Lua 5.4
end

function Bits:eg(k)
    local n = 0
    while self:get(1) == 0 do
        n = n + 1
        if n + k > 36 then
            refuse("range", "a code of more than 36 bits after the first one")
        end
    end
    return math.floor(2 ^ (n + k) - 2 ^ k) + self:get(n + k)
end

local function unzigzag(code)
    return code % 2 == 1 and -math.floor((code + 1) / 2) or math.floor(code / 2)
end

local function signed(value, n)
    return value >= 2 ^ (n - 1) and math.floor(value - 2 ^ n) or value
end

local function runs(bits, n, k)
    local codes = {}
    while #codes < n do
        local run = bits:eg(k)
        if run > n - #codes then
            refuse("range", "a run past the end")
        end
        for _ = 1, run do
            codes[#codes + 1] = 0
        end
        if #codes < n then
            codes[#codes + 1] = bits:eg(0) + 1
        end
    end
    return codes
end

local function rice(bits, n, k)
    local codes = {}
    for i = 1, n do
        local q = 0
        while q < 12 and bits:get(1) == 0 do
            q = q + 1
        end
        codes[i] = math.floor(q * 2 ^ k) + (q < 12 and bits:get(k) or bits:eg(k + 3))
    end
    return codes
end

-- Return the stored values of a column and the name of its coding.
local function column(bits, first, n, width, is_signed, modulus)
    local values = { first }
    if n == 1 then
        return values, "one value"
    end
    local second, kind = bits:get(1) == 1, bits:get(2)
    if kind == 3 then
        if second then
            refuse("range", "raw second differences")
        end
        for i = 2, n do
            local value = bits:get(width)
            values[i] = is_signed and signed(value, width) or value
        end
        return values, "raw, " .. width .. " bits"
    end
    local delta, said, codes = 0, second and "second differences, " or "first differences, ", nil
    local sum = first
    if second then
        delta = unzigzag(bits:eg(0))
        sum = sum + delta
        values[2] = sum
    end
    local left = n - #values
    if kind == 0 then
        codes, said = {}, said .. "constant"
        for i = 1, left do
            codes[i] = 0
        end
    elseif kind == 1 then
        local w = bits:get(6)
        if w < 1 or w > 34 then
            refuse("range", "difference width " .. w)
        end
        codes, said = {}, said .. w .. " bits each"
        for i = 1, left do
            codes[i] = bits:get(w)
        end
    else
        local p = bits:get(4)
        said = said .. (p < 13 and "Rice, p = " .. p or "zero runs, p = " .. p)
        codes = p < 13 and rice(bits, left, p) or runs(bits, left, p - 11)
    end
    for i = 1, left do
        delta = (second and delta or 0) + unzigzag(codes[i])
        sum = sum + delta
        values[#values + 1] = sum
    end
    if modulus > 0 then
        for i = 2, n do
            values[i] = values[i] % modulus
        end
    end
    return values, said
end

-- Return resolution, tick, columns (lists of values in display units, or UNKNOWN) and the names of the codings.
local function batch(range)
    local bits = bits_of(range)
    local n = bits:eg(0) + 1
    if n > MAX_BATCH then
        refuse("range", n .. " rows")
    end
    local r, tick = bits:get(2) + 1, ({ 1000, 100, 10, 1 })[bits:get(2) + 1]
    if r > 3 then
        refuse("range", "resolution code 3")
    end
    local present = bits:get(1) == 1 and 2 ^ OPTIONAL - 1 or bits:get(OPTIONAL)
    local start = bits:get(32) * 1000
    if tick < 1000 then
        local ms = bits:get(10)
        if ms > 999 then
            refuse("range", "millisecond " .. ms)
        end
        start = start + ms
    end
    local columns, codings = {}, {}
    columns[1], codings[1] = column(bits, 0, n, 32, true, 0)
    for i = 1, n do
        columns[1][i] = start + columns[1][i] * tick
        if columns[1][i] < 0 or columns[1][i] > TIME_MAX then
            refuse("range", "time")
        end
    end
    for j = 2, #COLUMNS do
        local c = COLUMNS[j]
        local here = true
        if c.optional then
            here = present % 2 == 1
            present = math.floor(present / 2)
        end
        if here then
            local width, divisor = c.bits[r], c.divisor[r]
            local least = c.low / divisor
            local first = c.k < 0 and bits:get(width) or bits:eg(c.k)
            if c.signed and not c.optional then
                first = signed(first, width)
            elseif c.signed and first > 0 then
                first = unzigzag(first - 1) + 1 - least
            end
            local values, said = column(bits, first, n, width, c.signed and not c.optional, c.modulus)
            local floor = c.optional and 0 or least
            local offset = c.optional and (c.signed and least or 0) - 1 or 0
            for i = 1, n do
                local v = values[i]
                if v < floor or (v + offset) * divisor >= c.high + divisor or (c.modulus > 0 and v >= c.modulus) then
                    refuse("range", c.name)
                end
                values[i] = c.optional and v == 0 and UNKNOWN or (v + offset) * divisor
            end
            columns[j], codings[j] = values, said
        else
            columns[j], codings[j] = {}, "absent"
            for i = 1, n do
                columns[j][i] = UNKNOWN
            end
        end
    end
    local spare = bits.size - bits.at
    if spare > 7 or bits:get(spare) ~= 0 then
        refuse("length", "bytes or bits after the batch")
    end
    return n, r + 4, tick, columns, codings
end

local function show_batch(range, tree, verdict)
    local n, resolution, tick, columns, codings = batch(range)
    tree:add(f_rows, range, n)
    tree:add(f_resolution, range, resolution)
    tree:add(f_tick, range, tick)
    for j, said in ipairs(codings) do
        tree:add(f_coding, range, COLUMNS[j].name .. ": " .. said)
    end
    for i = 1, n do
        if columns[STATE][i] % 4 == 0 then
            refuse("range", "mode 0")
        end
    end
    local newest_ms = columns[1][1]
    for i = 2, n do
        newest_ms = math.max(newest_ms, columns[1][i])
    end
    take_time(verdict, columns[1][1], newest_ms)
    if verdict.time_note then
        tree:add_proto_expert_info(e_time_back, verdict.time_note)
    end
    for i = 1, n do
        local row = tree:add(f_row, range, "row " .. i)
        local ms = columns[1][i]
        row:add(row_fields[1], range, NSTime.new(math.floor(ms / 1000), ms % 1000 * 1000000))
        if i > 1 and ms < columns[1][i - 1] then
            row:add_proto_expert_info(e_time_back, string.format("%.3f s before the row above", (columns[1][i - 1] - ms) / 1000))
        end
        for j = 2, #COLUMNS do
            local value = columns[j][i]
            if value ~= UNKNOWN then
                row:add(row_fields[j], range, value / COLUMNS[j].scale)
            end
        end
    end
    return n
end

