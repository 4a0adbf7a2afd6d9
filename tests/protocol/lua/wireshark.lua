-- The part of Wireshark's Lua API that the dissector uses, so that it runs in other versions of Lua than that of the
-- installed Wireshark: lua5.4 wireshark.lua patrolink.lua KEYS < REQUESTS. A request is a line with a direction (0 or
-- 1), a device id and a frame in hexadecimal. The answer is a line "= NAME VALUE" for each field, a line "! TEXT" for
-- each expert information, and a line ".".

local function named(...)
    local values = {}
    for i, name in ipairs({ ... }) do
        values[name] = i
    end
    return values
end

local function nothing() end

local Range = {}
Range.__index = Range

local function range_of(text)
    return setmetatable({ text = text }, Range)
end

function Range:len()
    return #self.text
end

function Range:reported_len()
    return #self.text
end

function Range:raw()
    return self.text
end

function Range:range(at, n)
    if not at then
        return self
    end
    local size = n or #self.text - at
    assert(at >= 0 and size > 0 and at + size <= #self.text, "range outside of the buffer")
    return range_of(self.text:sub(at + 1, at + size))
end

function Range:uint()
    assert(#self.text <= 4, "no uint of more than 4 bytes")
    return (string.unpack(">I" .. #self.text, self.text))
end

function Range:int()
    return (string.unpack(">i" .. #self.text, self.text))
end

function Range:uint64()
    return (string.unpack(">I8", self.text))
end

function Range:__call(at, n)
    return self:range(at, n)
end

local function masked(value, mask)
    while mask & 1 == 0 do
        value, mask = value >> 1, mask >> 1
    end
    return value & mask
end

local function hex(text)
    return (text:gsub(".", function(c)
        return string.format("%02x", c:byte())
    end))
end

-- Return a value as text. As in Wireshark, a number without an integer representation is an error in an integer field.
local function shown(field, range, value)
    if field.kind:find("int") or field.kind == "bool" then
        value = type(value) == "boolean" and (value and 1 or 0) or value or range:uint()
        value = assert(math.tointeger(value), field.abbreviation)
        return string.format(field.kind == "uint64" and "%u" or "%d", field.mask and masked(value, field.mask) or value)
    elseif field.kind == "double" then
        return string.format("%.17g", value)
    elseif field.kind == "bytes" then
        return hex(range.text)
    end
    return value or range.text
end

local Item = {}
Item.__index = Item

function Item:add(field, range, value)
    if type(field) == "table" and field.abbreviation then
        print("= " .. field.abbreviation .. " " .. shown(field, range, value))
    end
    return self
end
Item.add_packet_field = function(self, field, range)
    return self:add(field, range)
end

function Item:add_proto_expert_info(info, text)
    assert(info, "an expert information that was not declared")
    print("! " .. text)
end

function Item:append_text(text)
    assert(type(text) == "string")
    return self
end

function Item:set_generated()
    return self
end

local protos = {}

function Proto(name)
    protos[name] = { prefs = {}, register_heuristic = nothing }
    return protos[name]
end

Pref = {
    string = function(label)
        return label == "Keys file" and arg[2] or ""
    end,
}
ProtoField = setmetatable({}, {
    __index = function(_, kind)
        return function(abbreviation, _, _, _, mask)
            return { abbreviation = abbreviation, kind = kind, mask = mask }
        end
    end,
})
ProtoExpert = {
    new = function()
        return {}
    end,
}
expert = {
    group = named("MALFORMED", "SECURITY", "SEQUENCE", "DECRYPTION", "PROTOCOL", "CHECKSUM", "UNDECODED"),
    severity = named("ERROR", "WARN", "NOTE", "CHAT"),
}
base = named("DEC", "HEX", "UTC")
wtap = named("USER0", "USER1")
ENC_UTF_8 = 1
Dissector = { get = nothing }
DissectorTable = {
    get = function()
        return { add = nothing, add_for_decode_as = nothing }
    end,
}
ByteArray = {
    new = function(text)
        return {
            tvb = function()
                return range_of(text)
            end,
        }
    end,
}
NSTime = {
    new = function(seconds, nanoseconds)
        return string.format("%d.%09d", seconds, nanoseconds)
    end,
}

assert(loadfile(arg[1]))()
local number = 0
for line in io.lines() do
    local direction, device, digits = line:match("^(%d) (%S+) (%x*)$")
    local frame = digits:gsub("%x%x", function(pair)
        return string.char(tonumber(pair, 16))
    end)
    number = number + 1
    local columns = setmetatable({}, { __index = { info = { fence = nothing } }, __newindex = nothing })
    local pinfo = { number = number, visited = false, private = {}, cols = columns }
    protos.patrolink.init() -- each frame has a receiver of its own
    local packet = string.char(tonumber(direction), #device) .. device .. frame
    protos.patrolink.dissector(range_of(packet), pinfo, setmetatable({}, Item))
    print(".")
end
