-- --- scalar messages ----------------------------------------------------------------------------------------------

local function is_utf8(text)
    local i, n = 1, #text
    while i <= n do
        local c = text:byte(i)
        local more = c < 0x80 and 0 or c >= 0xC2 and c < 0xE0 and 1 or c >= 0xE0 and c < 0xF0 and 2 or c >= 0xF0 and c < 0xF5 and 3
        if not more or i + more > n then
            return false
        end
        for j = 1, more do
            local next_byte = text:byte(i + j)
            if next_byte < 0x80 or next_byte > 0xBF then
                return false
            end
        end
        i = i + 1 + more
    end
    return true
end

local function show_integer(f, range, tree)
    if f.type == "u64" then
        local value = range:uint64()
        local item = tree:add(f.proto, range, value)
        if f.unknown and value == UInt64(f.unknown) then
            item:append_text(" (not known)")
        end
        return
    end
    local value = f.type:sub(1, 1) == "i" and range:int() or range:uint()
    local item = tree:add(f.proto, range, value)
    if value == f.unknown then
        item:append_text(" (not known)")
    elseif value < f.low or value > f.high then
        refuse("range", f.name .. " " .. value)
    end
    for bit, name in ipairs(f.bits or {}) do
        if math.floor(value / 2 ^ (bit - 1)) % 2 == 1 then
            item:append_text(" " .. name)
        end
    end
end

local function show_fields(message, range, tree)
    local at, size = 0, range:len()
    for _, f in ipairs(message.fields) do
        local n = f.size
        if at + n > size then
            refuse("length", "the body ends before " .. f.name)
        end
        if f.type == "str" or f.type == "bytes" then
            n = range:range(at, f.size):uint()
            at = at + f.size
            if at + n > size then
                refuse("length", f.name)
            end
            if n < f.low or n > f.high or (f.type == "str" and n > 0 and not is_utf8(range:range(at, n):raw())) then
                refuse("range", f.name)
            end
            if n == 0 then
                tree:add(range:range(at - f.size, f.size), f.name .. ": (empty)")
            elseif f.type == "str" then
                tree:add_packet_field(f.proto, range:range(at, n), ENC_UTF_8)
            else
                tree:add(f.proto, range:range(at, n))
            end
        else
            show_integer(f, range:range(at, n), tree)
        end
        at = at + n
    end
    if at < size then
        tree:add(f_later, range:range(at))
    end
end

