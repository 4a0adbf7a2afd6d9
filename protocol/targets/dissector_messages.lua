
-- --- scalar messages ----------------------------------------------------------------------------------------------

-- RFC 3629, section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
local UTF8 = {
    "^[\0-\127]+",
    "^[\194-\223][\128-\191]",
    "^\224[\160-\191][\128-\191]",
    "^[\225-\236\238\239][\128-\191][\128-\191]",
    "^\237[\128-\159][\128-\191]",
    "^\240[\144-\191][\128-\191][\128-\191]",
    "^[\241-\243][\128-\191][\128-\191][\128-\191]",
    "^\244[\128-\143][\128-\191][\128-\191]",
}

local function is_utf8(text)
    local at = 1
    while at <= #text do
        local last
        for _, pattern in ipairs(UTF8) do
            last = last or select(2, text:find(pattern, at))
        end
        if not last then
            return false
        end
        at = last + 1
    end
    return true
end

-- Return the value of an integer field; a u64 above 2^53 is rounded.
local function integer(f, range)
    if f.type == "u64" then
        return range:range(0, 4):uint() * 4294967296.0 + range:range(4, 4):uint()
    end
    return f.type:sub(1, 1) == "i" and range:int() or range:uint()
end

local function show_bits(f, value, item)
    local unnamed = {}
    for bit = 0, 8 * f.size - 1 do
        if math.floor(value / 2 ^ bit) % 2 == 1 then
            item:append_text(" " .. (f.bits[bit + 1] or "bit_" .. bit))
            unnamed[#unnamed + 1] = not f.bits[bit + 1] and bit or nil
        end
    end
    if #unnamed > 0 then
        local text = string.format("bits of %s without a name in this version: ", f.name)
        item:add_proto_expert_info(e_name, text .. table.concat(unnamed, ", "))
    end
end

local function show_integer(f, range, tree)
    local value = integer(f, range)
    local item = tree:add(f.proto, range, f.type == "u64" and range:uint64() or value)
    if value == f.unknown then
        item:append_text(" (not known)")
        return value
    elseif f.low and (value < f.low or value > f.high) then
        refuse("range", string.format("%s %.0f", f.name, value))
    end
    if f.type == "u64" and f.unit == "ms" and value <= TIME_MAX then
        item:append_text(os.date("! (%Y-%m-%d %H:%M:%S", math.floor(value / 1000)) .. string.format(".%03d UTC)", value % 1000))
    end
    if f.names and not f.names[value] then
        item:add_proto_expert_info(e_name, string.format("%s %d has no name in this version", f.name, value))
    end
    if f.bits then
        show_bits(f, value, item)
    end
    return value
end

-- Add a field of type str or bytes, whose length is at the start of the range; return the size of both and the length.
local function show_text(f, range, tree)
    local n = range:range(0, f.size):uint()
    if f.size + n > range:len() then
        refuse("length", f.name)
    end
    local contents = n > 0 and range:range(f.size, n)
    if n ~= f.unknown and (n < f.low or n > f.high) or (f.type == "str" and contents and not is_utf8(contents:raw())) then
        refuse("range", f.name)
    end
    if f.type == "str" and contents and contents:raw():find("\0", 1, true) then
        -- Wireshark would end the text there; U+2400 stands for the zero byte.
        tree:add(f.proto, contents, (contents:raw():gsub("\0", "\226\144\128")))
    elseif f.type == "str" and contents then
        tree:add_packet_field(f.proto, contents, ENC_UTF_8)
    elseif f.type == "str" then
        tree:add(f.proto, range:range(0, f.size), ""):append_text("(empty)")
    elseif not contents then
        tree:add(range:range(0, f.size), f.name .. ": (empty)")
    else
        tree:add(f.proto, contents)
    end
    return f.size + n, n
end

-- Refuse a message in which a pair of fields is contradictory. `values` holds numbers and the lengths of str and bytes.
local function check_pairs(message, values)
    for _, pair in ipairs(message.pairs or {}) do
        local first, second = message.fields[pair[1]], message.fields[pair[2]]
        local a, b = values[pair[1]], values[pair[2]]
        local a_known, b_known = a ~= first.unknown, b ~= second.unknown
        if pair.ordered and a_known and b_known and a > b or not pair.ordered and a_known ~= b_known then
            refuse("range", first.name .. " and " .. second.name)
        end
    end
end

local function show_fields(message, range, tree)
    local at, size, values = 0, range:len(), {}
    for i, f in ipairs(message.fields) do
        if at + f.size > size then
            refuse("length", "the body ends before " .. f.name)
        end
        if f.type == "str" or f.type == "bytes" then
            local long
            long, values[i] = show_text(f, range:range(at), tree)
            at = at + long
        else
            values[i] = show_integer(f, range:range(at, f.size), tree)
            at = at + f.size
        end
    end
    check_pairs(message, values)
    if at < size then
        local item = tree:add(f_later, range:range(at))
        local count = size - at == 1 and "1 byte" or size - at .. " bytes"
        item:add_proto_expert_info(e_later, count .. " behind the last known field")
    end
end
