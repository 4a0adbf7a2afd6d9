-- The code below does not depend on the schema. It uses the tables above: VERSION, MESSAGES, COLUMNS and limits.
--
-- Capture files have link type USER0 (DLT 147). A packet is direction (1 byte: 0 up, 1 down), length of the device id
-- (1 byte), device id, frame. `patrolink decode CAPTURE --format pcap --output X.pcap` writes such files. For frames
-- inside MQTT, add "patrolink_frame" for topic p/ to "Message Decoding" in Wireshark's MQTT preferences.
-- Tags are shown but not verified: a dissector has no keys.

local patrolink = Proto("patrolink", "Patrolink")
local frame_proto = Proto("patrolink_frame", "Patrolink frame")
local fields = {}
local UNKNOWN = {}

local function field(make, key, ...)
    local f = make("patrolink." .. key, ...)
    fields[#fields + 1] = f
    return f
end

local f_direction = field(ProtoField.uint8, "direction", "Direction", base.DEC, { [0] = "up", [1] = "down" })
local f_device = field(ProtoField.string, "device", "Device id")
local f_version = field(ProtoField.uint8, "version", "Version", base.DEC, nil, 0xE0)
local type_names = {}
for kind, message in pairs(MESSAGES) do
    type_names[kind] = message.name
end
local f_type = field(ProtoField.uint8, "type", "Type", base.DEC, type_names, 0x1F)
local f_tail_flag = field(ProtoField.bool, "flags.tail", "Tail", 8, nil, FLAG_TAIL * 16)
local f_phase = field(ProtoField.bool, "flags.phase", "Key phase", 8, nil, FLAG_PHASE * 16)
local f_encrypted = field(ProtoField.bool, "flags.encrypted", "Encrypted", 8, nil, FLAG_ENCRYPTED * 16)
local f_reserved = field(ProtoField.uint8, "flags.reserved", "Reserved", base.HEX, nil, 0x10)
local f_counter = field(ProtoField.uint32, "counter", "Counter", base.DEC, nil, 0x0FFFFFFF)
local f_tag = field(ProtoField.bytes, "tag", "Tag (not verified)")
local f_later = field(ProtoField.bytes, "later", "Fields of a later minor version")
local f_extension = field(ProtoField.bytes, "extension", "Extension")
local f_extension_type = field(ProtoField.uint8, "extension.type", "Type", base.DEC, nil, 0x7F)
local f_critical = field(ProtoField.bool, "extension.critical", "Critical", 8, nil, 0x80)
local f_resolution = field(ProtoField.uint8, "batch.resolution", "Resolution (10^-n degrees)")
local f_tick = field(ProtoField.uint32, "batch.tick_ms", "Tick (ms)")
local f_rows = field(ProtoField.uint32, "batch.rows", "Rows")
local f_coding = field(ProtoField.string, "batch.coding", "Coding")
local f_row = field(ProtoField.string, "row", "Row")
local row_fields = { field(ProtoField.absolute_time, "row.time", "Time", base.UTC) }
for i = 2, #COLUMNS do
    local c = COLUMNS[i]
    row_fields[i] = field(ProtoField.double, "row." .. c.name, c.name .. " (" .. c.unit .. ")")
end

for _, message in pairs(MESSAGES) do
    for _, f in ipairs(message.fields or {}) do
        local key = message.name .. "." .. f.name
        local label = f.name .. (f.unit ~= "" and " (" .. f.unit .. ")" or "")
        if f.type == "str" then
            f.proto = field(ProtoField.string, key, label)
        elseif f.type == "bytes" then
            f.proto = field(ProtoField.bytes, key, label)
        elseif f.type == "u64" then
            f.proto = field(ProtoField.uint64, key, label)
        else
            local make = f.type:sub(1, 1) == "i" and ProtoField["int" .. f.size * 8] or ProtoField["uint" .. f.size * 8]
            f.proto = field(make, key, label, base.DEC, f.names)
        end
    end
end
patrolink.fields = fields

local e_malformed = ProtoExpert.new("patrolink.malformed", "Refused", expert.group.MALFORMED, expert.severity.ERROR)
patrolink.experts = { e_malformed }

-- Raise a reason of the reject table as an error; the dissector of a frame catches it.
local function refuse(reason, detail)
    error({ reason = reason, detail = detail }, 0)
end

