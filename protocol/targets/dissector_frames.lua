
-- --- frames -------------------------------------------------------------------------------------------------------

-- Add the tail of the range to the tree and return the length of the body before it.
local function show_tail(range, tree)
    local size = range:len()
    local n = size > 0 and range:range(size - 1, 1):uint() or 1
    if n > size - 1 then
        refuse("length", "tail")
    end
    local at, critical, illegal, seen = size - 1 - n, nil, nil, {}
    while at < size - 1 do
        if at + 2 > size - 1 or at + 2 + range:range(at + 1, 1):uint() > size - 1 then
            refuse("length", "extension")
        end
        local long = range:range(at + 1, 1):uint()
        local item = tree:add(f_extension, range:range(at, 2 + long))
        item:add(f_extension_type, range:range(at, 1))
        item:add(f_critical, range:range(at, 1))
        local kind = range:range(at, 1):uint() % 128
        local limits = EXTENSION_BYTES[kind] or { 0, 255 }
        if kind == 0 or seen[kind] or long < limits[1] or long > limits[2] then
            illegal = kind
        end
        seen[kind] = true
        if range:range(at, 1):uint() >= 128 then
            critical = kind
        elseif not EXTENSIONS[kind] then
            item:add_proto_expert_info(e_extension, string.format("extension %d is ignored by this version", kind))
        end
        at = at + 2 + long
    end
    if illegal then
        refuse("range", string.format("extension %d", illegal))
    end
    if critical then
        refuse("critical", string.format("extension %d", critical))
    end
    return size - 1 - n
end

local function show_header(range, tree)
    local size = range:len()
    if size < HEADER + TAG_BYTES or size > MAX_FRAME then
        refuse("length", size .. " bytes")
    end
    local first = range:range(0, 1)
    tree:add(f_version, first)
    if math.floor(first:uint() / 32) ~= VERSION then
        refuse("version", string.format("%d", math.floor(first:uint() / 32)))
    end
    tree:add(f_type, first)
    if size < HEADER + tag_bytes(first:uint() % 32) then
        refuse("length", size .. " bytes")
    end
    for _, f in ipairs({ f_tail_flag, f_phase, f_encrypted, f_reserved }) do
        tree:add(f, range:range(1, 1))
    end
    return tree:add(f_counter, range:range(1, 4))
end

-- Show what the receiver has found out about tag and counter.
local function show_verdict(verdict, tag, counter, tree)
    local item = tree:add(f_tag, tag)
    if verdict.channel then
        tree:add(f_authentic, tag, verdict.authentic == true):set_generated()
        tree:add(f_epoch, tag, verdict.channel.epoch):set_generated()
    elseif keys_error then
        item:add_proto_expert_info(e_keys_file, keys_error)
    elseif #key_ids > 0 then
        item:add_proto_expert_info(e_no_key, "no key verifies this frame: no key of its device, or its device is not known")
    end
    item:append_text(verdict.authentic and " (verified)" or verdict.channel and " (wrong)" or " (not verified)")
    for _, note in ipairs(verdict.notes) do
        counter:add_proto_expert_info(note[1], note[2])
    end
    if verdict.reason == "tag" then
        item:add_proto_expert_info(e_wrong_tag, "tag: " .. verdict.detail)
    elseif verdict.reason == "replay" then
        counter:add_proto_expert_info(e_replay, "replay: " .. verdict.detail)
    elseif verdict.reason then
        refuse(verdict.reason, verdict.detail)
    end
end

-- Return the range of a body, decrypted if it is encrypted; nil if it cannot be decrypted.
local function readable_body(range, size, encrypted, verdict, tree)
    local body = range:range(HEADER, size)
    if not encrypted then
        return body
    end
    local item = tree:add(f_ciphertext, body)
    if not verdict.authentic then
        -- As in a receiver, nothing is decrypted before the tag holds.
        item:append_text(" (not decrypted)")
        return nil
    end
    local plain = aes_ctr(verdict.channel.cipher, range:range(0, HEADER):raw(), body:raw())
    return ByteArray.new(plain, true):tvb("Decrypted Patrolink body"):range()
end

local function show_frame(range, pinfo, tree, place, link, info)
    local counter_item = show_header(range, tree)
    local kind, flags = range:range(0, 1):uint() % 32, math.floor(range:range(1, 1):uint() / 16)
    local message = MESSAGES[kind]
    info.text = (message and message.name or "type " .. kind)
        .. string.format(" %d", range:range(1, 4):uint() % 2 ^ COUNTER_BITS)
    local verdict = receive(range:raw(), pinfo, place, link)
    info.device = verdict.device
    if link and verdict.device then
        tree:add(f_device, range, verdict.device):set_generated()
    end
    if link and verdict.direction then
        tree:add(f_direction, range, verdict.direction == "up" and 0 or 1):set_generated()
    end
    if verdict.reason then
        info.text = info.text .. " [refused: " .. verdict.reason .. "]"
    end
    local size = range:len() - HEADER - tag_bytes(kind)
    show_verdict(verdict, range:range(HEADER + size), counter_item, tree)
    local encrypted = flags % 4 >= FLAG_ENCRYPTED
    if message and message.confidential and not encrypted then
        tree:add_proto_expert_info(e_plain, "a sender encrypts " .. message.name)
    end
    local body = size > 0 and readable_body(range, size, encrypted, verdict, tree)
    if size > 0 and not body then
        info.text = info.text .. ", encrypted"
        return
    end
    if flags >= FLAG_TAIL then
        if not body then
            refuse("length", "tail")
        end
        size = show_tail(body, tree)
    end
    local direction = verdict.direction
    if not message then
        refuse("type", "type " .. kind .. " is unknown")
    elseif direction and message.direction ~= "both" and message.direction ~= direction then
        refuse("type", message.name .. " is not sent " .. direction)
    end
    if size == 0 then
        refuse("length", "no body")
    end
    body = body:range(0, size)
    local branch = tree:add(patrolink, body, message.name)
    if message.fields then
        show_fields(message, body, branch)
    else
        info.text = info.text .. string.format(", %d fixes", show_batch(body, branch, verdict))
    end
end

-- Show one frame; return its line for the packet list.
local function dissect(range, pinfo, tree, place, link)
    local info = { text = "", device = place.device }
    local fine, why = pcall(show_frame, range, pinfo, tree, place, link, info)
    if not fine then
        if type(why) ~= "table" then
            error(why, 0)
        end
        tree:add_proto_expert_info(e_malformed, why.reason .. ": " .. why.detail)
        info.text = info.text:gsub(" %[refused: .*%]", "") .. " [refused: " .. why.reason .. ": " .. why.detail .. "]"
    end
    return (info.device and info.device .. " " or "") .. info.text
end

-- Add lines to the packet list, behind those of earlier frames of the packet.
local function show_lines(pinfo, lines)
    if #lines == 0 then
        return
    end
    local earlier = pinfo.private["patrolink.lines"]
    pinfo.private["patrolink.lines"] = "1"
    pinfo.cols.protocol = "Patrolink"
    pinfo.cols.info = (earlier and "; " or "") .. table.concat(lines, "; ")
    pinfo.cols.info:fence()
end

-- A broker forwards a frame to each subscriber; each connection that it forwards on is a separate receiver.
local function hop_of(pinfo)
    local to = tostring(pinfo.dst)
    return pinfo.src_port < pinfo.dst_port and to .. ":" .. pinfo.dst_port or to
end
