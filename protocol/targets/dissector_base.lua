-- The code below does not depend on the schema. It uses the tables above: VERSION, MESSAGES, COLUMNS and limits.
--
-- It binds to PUBLISH packets of MQTT with the topics p/<device>/u and p/<device>/d, to serial packets inside TCP, and
-- to two link types: USER0 (DLT 147) has frames behind a pseudo header of direction (1 byte: 0 up, 1 down), length of
-- the device id (1 byte) and device id; USER1 (DLT 148) has the bytes of a serial line. `patrolink decode CAPTURE
-- --format pcap --output X.pcap` writes USER0. With a keys file in the preference patrolink.keys, tags are verified,
-- counters are judged as a receiver does, and encrypted bodies are decrypted. docs/guide/wireshark.md describes this.

local patrolink = Proto("patrolink", "Patrolink")
local mqtt_proto = Proto("patrolink_mqtt", "Patrolink in MQTT")
local serial_proto = Proto("patrolink_serial", "Patrolink on a serial line")
local fields = {}
local experts = {}
local UNKNOWN = {}

local function field(make, key, ...)
    local f = make("patrolink." .. key, ...)
    fields[#fields + 1] = f
    return f
end

local function expert_info(key, text, group, severity)
    local e = ProtoExpert.new("patrolink." .. key, text, group, severity)
    experts[#experts + 1] = e
    return e
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
local f_tag = field(ProtoField.bytes, "tag", "Tag")
local f_authentic = field(ProtoField.bool, "authentic", "Authentic")
local f_epoch = field(ProtoField.uint32, "epoch", "Key epoch")
local f_ciphertext = field(ProtoField.bytes, "ciphertext", "Encrypted body")
local f_later = field(ProtoField.bytes, "later", "Fields of a later minor version")
local f_extension = field(ProtoField.bytes, "extension", "Extension")
local f_extension_type = field(ProtoField.uint8, "extension.type", "Type", base.DEC, EXTENSIONS, 0x7F)
local f_critical = field(ProtoField.bool, "extension.critical", "Critical", 8, nil, 0x80)
local f_resolution = field(ProtoField.uint8, "batch.resolution", "Resolution (10^-n degrees)")
local f_tick = field(ProtoField.uint32, "batch.tick_ms", "Tick (ms)")
local f_rows = field(ProtoField.uint32, "batch.rows", "Rows")
local f_coding = field(ProtoField.string, "batch.coding", "Coding")
local f_row = field(ProtoField.string, "row", "Row")
local f_packet = field(ProtoField.bytes, "serial.packet", "Serial packet")
local f_invalid = field(ProtoField.bytes, "serial.invalid", "Bytes that are no serial packet")
local f_crc = field(ProtoField.uint16, "serial.crc", "CRC-16", base.HEX)
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

local ERROR, WARN, NOTE, CHAT = expert.severity.ERROR, expert.severity.WARN, expert.severity.NOTE, expert.severity.CHAT
local e_malformed = expert_info("malformed", "Refused", expert.group.MALFORMED, ERROR)
local e_wrong_tag = expert_info("wrong_tag", "Wrong tag", expert.group.SECURITY, ERROR)
local e_replay = expert_info("replay", "Replay", expert.group.SEQUENCE, WARN)
local e_repeated = expert_info("repeated", "Repeated frame", expert.group.SEQUENCE, NOTE)
local e_gap = expert_info("gap", "Counters missing", expert.group.SEQUENCE, NOTE)
local e_late = expert_info("late", "Out of order", expert.group.SEQUENCE, CHAT)
local e_epoch = expert_info("new_epoch", "New key epoch", expert.group.SEQUENCE, NOTE)
local e_time_back = expert_info("time_back", "Time goes back", expert.group.SEQUENCE, NOTE)
local e_no_key = expert_info("no_key", "Not verified", expert.group.DECRYPTION, NOTE)
local e_keys_file = expert_info("keys_file", "Keys file", expert.group.DECRYPTION, ERROR)
local e_later = expert_info("later_minor", "Later minor version", expert.group.PROTOCOL, NOTE)
local e_name = expert_info("unknown_name", "Value without a name", expert.group.PROTOCOL, NOTE)
local e_extension = expert_info("unknown_extension", "Unknown extension", expert.group.PROTOCOL, NOTE)
local e_plain = expert_info("plain_text", "Confidential message in plain text", expert.group.SECURITY, NOTE)
local e_serial = expert_info("serial_error", "Serial line", expert.group.CHECKSUM, WARN)
local e_cut = expert_info("cut", "Not captured as a whole", expert.group.UNDECODED, WARN)
patrolink.experts = experts

patrolink.prefs.keys = Pref.string("Keys file", "", "TOML file with device keys, as `patrolink decode --keys` reads it")
patrolink.prefs.serial_device =
    Pref.string("Device on serial lines", "", "Device id of serial lines; empty: the device whose key verifies the frame")

-- Raise a reason of the reject table as an error; the dissector of a frame catches it.
local function refuse(reason, detail)
    error({ reason = reason, detail = detail }, 0)
end
