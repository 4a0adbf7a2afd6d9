
-- --- serial lines -------------------------------------------------------------------------------------------------
-- A frame and its CRC-16/CCITT-FALSE, COBS-encoded, end with a zero byte; an idle line has zero bytes (SPEC.md).

local PACKET_MAX = MAX_FRAME + 2 + math.floor(MAX_FRAME / 254) + 1

local crc_table = {}
for i = 0, 255 do
    local crc = i * 256
    for _ = 1, 8 do
        crc = crc < 32768 and crc * 2 or bxor(crc * 2 % 65536, 0x1021)
    end
    crc_table[i] = crc
end

local function crc16(text)
    local crc = 0xFFFF
    for i = 1, #text do
        crc = bxor(crc % 256 * 256, crc_table[bxor(math.floor(crc / 256), text:byte(i))])
    end
    return crc
end

-- Return the decoded bytes of a packet without its zero byte; nil if it is not COBS.
local function cobs_decode(packet)
    local parts, at = {}, 1
    while at <= #packet do
        local code = packet:byte(at)
        if at + code - 1 > #packet then
            return nil
        end
        parts[#parts + 1] = packet:sub(at + 1, at + code - 1)
        at = at + code
        if code < 255 and at <= #packet then
            parts[#parts + 1] = "\0"
        end
    end
    return table.concat(parts)
end

-- Return the frame of a packet, or nil and why there is none.
local function unpack_frame(packet)
    local data = #packet <= PACKET_MAX and cobs_decode(packet)
    if not data or #data < 3 or #data > MAX_FRAME + 2 then
        return nil, "no COBS packet with a frame of at most " .. MAX_FRAME .. " bytes"
    end
    local check = data:byte(-2) * 256 + data:byte(-1)
    if crc16(data:sub(1, -3)) ~= check then
        return nil, string.format("the CRC is 0x%04x, the packet has 0x%04x", crc16(data:sub(1, -3)), check)
    end
    return data:sub(1, -3), nil, check
end

-- Whether there is a valid packet with a frame of this version.
local function has_frame(text)
    for packet in text:gmatch("([^\0]+)\0") do
        local frame = unpack_frame(packet)
        if frame and #frame >= HEADER + TAG_BYTES and math.floor(frame:byte(1) / 32) == VERSION then
            return true
        end
    end
    return false
end

-- Captures may give the direction of a packet: 0 sent by the host, 1 received by it.
local LINE_DIRECTIONS = { [0] = "down", [1] = "up" }
local carried = {} -- start of a packet that continues in the next segment, by direction of the line
local prefixes = {} -- by packet of the capture: the bytes that precede it

local function reset_serial()
    carried, prefixes = {}, {}
end

local function show_packet(range, pinfo, tree, link, direction)
    local item = tree:add(patrolink, range)
    local frame, why, check = unpack_frame(range:raw())
    if not frame then
        item:add(f_invalid, range):add_proto_expert_info(e_serial, why)
        return "[serial: " .. why .. "]"
    end
    item:add(f_packet, range)
    item:add(f_crc, range, check):append_text(" (correct)")
    local place = { hop = link, direction = direction }
    if patrolink.prefs.serial_device ~= "" then
        place.device = patrolink.prefs.serial_device
    end
    return dissect(ByteArray.new(frame, true):tvb("Patrolink frame"):range(), pinfo, item, place, link)
end

-- Show the packets of a range and return the number of bytes behind the last zero byte.
local function show_packets(range, pinfo, tree, link, direction)
    local text, at, lines = range:raw(), 1, {}
    while at <= #text do
        local stop = text:find("\0", at, true)
        if not stop then
            break
        end
        if stop > at then
            lines[#lines + 1] = show_packet(range:range(at - 1, stop - at), pinfo, tree, link, direction)
        end
        at = stop + 1
    end
    local rest = #text + 1 - at
    if rest > PACKET_MAX then
        tree:add(patrolink, range:range(at - 1)):add(f_invalid, range:range(at - 1))
            :add_proto_expert_info(e_serial, "no zero byte ends this packet")
        rest = 0
    end
    show_lines(pinfo, lines)
    return rest
end

-- Bytes of a serial line. A packet may continue in the next segment.
local function dissect_serial(buffer, pinfo, tree)
    local range = buffer:range()
    if pinfo.can_desegment > 0 then
        local link = hop_of(pinfo)
        local rest = show_packets(range, pinfo, tree, link)
        if rest > 0 then
            pinfo.desegment_offset = buffer:len() - rest
            pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
        end
        return buffer:len()
    end
    local line = tostring(pinfo.p2p_dir)
    if not prefixes[pinfo.number] then
        prefixes[pinfo.number] = carried[line] or ""
    end
    local prefix = prefixes[pinfo.number]
    if prefix ~= "" then
        range = ByteArray.new(prefix .. range:raw(), true):tvb("Serial line"):range()
    end
    local rest = show_packets(range, pinfo, tree, "line " .. line, LINE_DIRECTIONS[pinfo.p2p_dir])
    if not pinfo.visited then
        carried[line] = rest > 0 and range:raw():sub(-rest) or ""
    end
    if rest > 0 then
        tree:add(patrolink, range:range(range:len() - rest), "Patrolink: start of a serial packet that continues")
    end
    return buffer:len()
end
serial_proto.dissector = dissect_serial
