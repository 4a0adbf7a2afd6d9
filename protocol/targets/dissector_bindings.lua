
-- --- where frames are found ---------------------------------------------------------------------------------------

-- Captures with a limit per packet do not have all bytes.
local function is_cut(buffer, tree)
    if buffer:reported_len() > buffer:len() then
        tree:add_proto_expert_info(e_cut, "the capture has only the first " .. buffer:len() .. " bytes of this packet")
        return true
    end
    return false
end

function patrolink.init()
    reset_receivers()
    reset_serial()
end

-- A frame behind the pseudo header.
function patrolink.dissector(buffer, pinfo, tree)
    local item = tree:add(patrolink, buffer())
    if is_cut(buffer, item) then
        return
    end
    if buffer:len() < 2 or buffer:len() < 3 + buffer(1, 1):uint() then
        item:add_proto_expert_info(e_malformed, "length: no frame behind the pseudo header")
        return
    end
    local n = buffer(1, 1):uint()
    item:add(f_direction, buffer(0, 1))
    local device
    if n > 0 then
        item:add(f_device, buffer(2, n))
        device = buffer(2, n):raw():match("^[%w_-]+$")
    end
    local direction = ({ [0] = "up", [1] = "down" })[buffer(0, 1):uint()]
    local place = { device = device, direction = direction, hop = "" }
    show_lines(pinfo, { dissect(buffer(2 + n), pinfo, item, place) })
end

-- Return offset, length and first byte of the MQTT packet at an offset; nil if it is not complete.
local function mqtt_packet(buffer, at)
    local length, factor, digit = 0, 1, 128
    local start = at
    while digit >= 128 do
        start = start + 1
        if start >= buffer:len() or start > at + 4 then
            return nil
        end
        digit = buffer(start, 1):uint()
        length = length + digit % 128 * factor
        factor = factor * 128
    end
    if start + 1 + length > buffer:len() then
        return nil
    end
    return start + 1, length, buffer(at, 1):uint()
end

-- Return device, direction and offset of the payload of a PUBLISH packet; nil if its topic is none of this protocol.
local function publish(buffer, start, length, first)
    if math.floor(first / 16) ~= 3 or length < 2 then
        return nil
    end
    local n = buffer(start, 2):uint()
    local payload = 2 + n + (math.floor(first / 2) % 4 > 0 and 2 or 0)
    if n == 0 or payload > length then
        return nil
    end
    local device, letter = buffer(start + 2, n):raw():match("^p/([%w_-]+)/([ud])$")
    if not device or #device > 32 then
        return nil
    end
    return device, letter == "u" and "up" or "down", payload
end

local mqtt = Dissector.get("mqtt")

-- Wireshark's own dissector for MQTT, and the frames in it.
local function dissect_mqtt(buffer, pinfo, tree)
    -- Wireshark counts how deep a dissector is called, and lets only the outermost one ask for further segments.
    pinfo.can_desegment = pinfo.can_desegment + 1
    mqtt:call(buffer, pinfo, tree)
    local at, lines = 0, {}
    while at < buffer:len() do
        local start, length, first = mqtt_packet(buffer, at)
        if not start then
            break
        end
        local device, direction, payload = publish(buffer, start, length, first)
        if device and payload < length then
            local range = buffer(start + payload, length - payload)
            local item = tree:add(patrolink, range)
            item:add(f_direction, range, direction == "up" and 0 or 1):set_generated()
            item:add(f_device, range, device):set_generated()
            local place = { device = device, direction = direction, hop = hop_of(pinfo) }
            lines[#lines + 1] = dissect(range, pinfo, item, place)
        end
        at = start + length
    end
    show_lines(pinfo, lines)
    return buffer:len()
end
mqtt_proto.dissector = dissect_mqtt

-- Give a connection to a dissector, whatever its port.
local function claim(proto, dissector, buffer, pinfo, tree)
    pinfo.conversation = proto
    pinfo.can_desegment = math.max(pinfo.can_desegment, 1) -- a heuristic dissector is one call deeper
    dissector(buffer, pinfo, tree)
    return true
end

-- A connection that begins with MQTT, or with a PUBLISH of this protocol.
mqtt_proto:register_heuristic("tcp", function(buffer, pinfo, tree)
    local start, length, first = mqtt_packet(buffer, 0)
    local connects = start and first == 0x10 and length > 6 and buffer(start, 6):raw() == "\0\4MQTT"
    if connects or start and publish(buffer, start, length, first) then
        return claim(mqtt_proto, dissect_mqtt, buffer, pinfo, tree)
    end
    return false
end)

-- Bytes that have a serial packet with a frame of this version.
serial_proto:register_heuristic("tcp", function(buffer, pinfo, tree)
    if buffer:len() > HEADER + TAG_BYTES and has_frame(buffer:range():raw()) then
        return claim(serial_proto, dissect_serial, buffer, pinfo, tree)
    end
    return false
end)

DissectorTable.get("wtap_encap"):add(wtap.USER0, patrolink)
DissectorTable.get("wtap_encap"):add(wtap.USER1, serial_proto)
DissectorTable.get("tcp.port"):add(1883, mqtt_proto)
DissectorTable.get("tls.port"):add(8883, mqtt_proto)
DissectorTable.get("ws.protocol"):add("mqtt", mqtt_proto)
DissectorTable.get("tcp.port"):add_for_decode_as(serial_proto)
