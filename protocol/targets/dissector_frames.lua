-- --- frames -------------------------------------------------------------------------------------------------------

-- Add the tail of the range to the tree and return the length of the body before it.
local function show_tail(range, tree)
    local size = range:len()
    local n = size > 0 and range:range(size - 1, 1):uint() or 1
    if n > size - 1 then
        refuse("length", "tail")
    end
    local at, critical = size - 1 - n, nil
    while at < size - 1 do
        if at + 2 > size - 1 or at + 2 + range:range(at + 1, 1):uint() > size - 1 then
            refuse("length", "extension")
        end
        local long = range:range(at + 1, 1):uint()
        local item = tree:add(f_extension, range:range(at, 2 + long))
        item:add(f_extension_type, range:range(at, 1))
        item:add(f_critical, range:range(at, 1))
        if range:range(at, 1):uint() >= 128 then
            critical = range:range(at, 1):uint() - 128
        end
        at = at + 2 + long
    end
    if critical then
        refuse("critical", "extension " .. critical)
    end
    return size - 1 - n
end

local function show_frame(range, info, tree, direction)
    local size = range:len()
    if size < HEADER + TAG_BYTES or size > MAX_FRAME then
        refuse("length", size .. " bytes")
    end
    local first = range:range(0, 1)
    tree:add(f_version, first)
    if math.floor(first:uint() / 32) ~= VERSION then
        refuse("version", tostring(math.floor(first:uint() / 32)))
    end
    tree:add(f_type, first)
    local kind = first:uint() % 32
    local message = MESSAGES[kind]
    local tag = kind >= LONG_TAG_FROM and LONG_TAG_BYTES or TAG_BYTES
    if size < HEADER + tag then
        refuse("length", size .. " bytes")
    end
    local flags = range:range(1, 1)
    for _, f in ipairs({ f_tail_flag, f_phase, f_encrypted, f_reserved }) do
        tree:add(f, flags)
    end
    tree:add(f_counter, range:range(1, 4))
    local counter = range:range(1, 4):uint() % 2 ^ 28
    info.text = (message and message.name or "type " .. kind) .. " " .. string.format("%d", counter)
    tree:add(f_tag, range:range(size - tag))
    if math.floor(flags:uint() / 16) % 2 ~= 0 then
        refuse("critical", "reserved flag")
    end
    if math.floor(flags:uint() / 16) % 4 >= FLAG_ENCRYPTED then
        refuse("critical", "encrypted")
    end
    local body = size - tag - HEADER
    if math.floor(flags:uint() / 16) >= FLAG_TAIL then
        if body == 0 then
            refuse("length", "tail")
        end
        body = show_tail(range:range(HEADER, body), tree)
    end
    if not message or (direction and message.direction ~= "both" and message.direction ~= direction) then
        refuse("type", "type " .. kind .. (direction and " never goes " .. direction or ""))
    end
    if message.fields then
        if body > 0 then
            show_fields(message, range:range(HEADER, body), tree:add(patrolink, range:range(HEADER, body), message.name))
        else
            refuse("length", "no body")
        end
    elseif body == 0 then
        refuse("length", "no body")
    else
        local n = show_batch(range:range(HEADER, body), tree:add(patrolink, range:range(HEADER, body), message.name))
        info.text = info.text .. string.format(", %d fixes", n)
    end
end

local function dissect(range, pinfo, tree, direction, device)
    local info = { text = "" }
    local fine, why = pcall(show_frame, range, info, tree, direction)
    if not fine then
        if type(why) ~= "table" then
            error(why, 0)
        end
        tree:add_proto_expert_info(e_malformed, why.reason .. ": " .. why.detail)
        info.text = info.text .. " [refused: " .. why.reason .. ": " .. why.detail .. "]"
    end
    pinfo.cols.protocol = "Patrolink"
    pinfo.cols.info = (device and device .. " " or "") .. info.text
end

function patrolink.dissector(buffer, pinfo, tree)
    local item = tree:add(patrolink, buffer())
    if buffer:len() < 2 or buffer:len() < 3 + buffer(1, 1):uint() then
        item:add_proto_expert_info(e_malformed, "length: no frame behind the pseudo header")
        return
    end
    local n = buffer(1, 1):uint()
    item:add(f_direction, buffer(0, 1))
    local device = ""
    if n > 0 then
        item:add(f_device, buffer(2, n))
        device = buffer(2, n):string()
    end
    dissect(buffer(2 + n), pinfo, item, buffer(0, 1):uint() == 0 and "up" or "down", device)
end

function frame_proto.dissector(buffer, pinfo, tree)
    if buffer:len() > 0 then
        dissect(buffer(), pinfo, tree:add(patrolink, buffer()))
    end
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, patrolink)
