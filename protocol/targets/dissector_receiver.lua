
-- --- receiver -----------------------------------------------------------------------------------------------------
-- Judges frames as a receiver does (SPEC.md, steps 4 to 7), in the order of the capture. A verdict is made when a
-- packet is dissected for the first time and kept: packets are dissected again in any order.

local LABELS = {
    up = { tag = "patrolink-up", cipher = "patrolink-up-cipher", code = "\0" },
    down = { tag = "patrolink-down", cipher = "patrolink-down-cipher", code = "\1" },
}
local EPOCH_MAX = 4294967295
local SENDERS_TRIED = 256

local keys, keys_error, key_ids = {}, nil, {}
local channels = {} -- keys of a device, direction and epoch
local receivers = {} -- counters accepted at one place of the network, by device, direction and place
local verdicts = {} -- by packet, and number of the frame in the packet
local senders = {} -- device on a serial line, by place

-- Forget what a capture has shown, and read the keys.
local function reset_receivers()
    channels, receivers, verdicts, senders = {}, {}, {}, {}
    keys, keys_error = load_keys(patrolink.prefs.keys)
    key_ids = {}
    for device in pairs(keys) do
        key_ids[#key_ids + 1] = device
    end
    table.sort(key_ids)
end

local function channel_of(device, direction, epoch)
    local name = device .. "/" .. direction .. "/" .. string.format("%d", epoch)
    if not channels[name] then
        local label = LABELS[direction]
        local secret = new_hmac(keys[device].secret)
        local number = ""
        for shift = 3, 0, -1 do
            number = number .. string.char(math.floor(epoch / 256 ^ shift) % 256)
        end
        channels[name] = {
            epoch = epoch,
            tag = new_hmac(hmac(secret, label.tag .. number)),
            cipher = new_aes(hmac(secret, label.cipher .. number):sub(1, 16)),
            context = string.char(#device) .. device .. label.code,
        }
    end
    return channels[name]
end

local function tag_bytes(kind)
    return kind >= LONG_TAG_FROM and LONG_TAG_BYTES or TAG_BYTES
end

local function tag_matches(channel, frame)
    local size = tag_bytes(frame:byte(1) % 32)
    return hmac(channel.tag, channel.context .. frame:sub(1, -size - 1)):sub(1, size) == frame:sub(-size)
end

-- Set device and direction of a frame on a serial line by trying keys.
local function find_sender(frame, place, link)
    local message = MESSAGES[frame:byte(1) % 32]
    local directions = { place.direction }
    if not place.direction then
        directions = message and message.direction ~= "both" and { message.direction } or { "up", "down" }
    end
    local phase = math.floor(frame:byte(2) / 16) % 8 >= FLAG_PHASE and 1 or 0
    local function try(device)
        for _, direction in ipairs(keys[device] and directions or {}) do
            local epoch = keys[device].epoch
            epoch = epoch % 2 == phase and epoch or math.min(epoch + 1, EPOCH_MAX)
            if tag_matches(channel_of(device, direction, epoch), frame) then
                place.device, place.direction, senders[link] = device, direction, device
                return true
            end
        end
    end
    local known = place.device or senders[link]
    if known and try(known) then
        return
    end
    for i = 1, place.device and 0 or math.min(#key_ids, SENDERS_TRIED) do
        if key_ids[i] ~= known and try(key_ids[i]) then
            return
        end
    end
    place.device = known
    place.direction = #directions == 1 and directions[1] or nil
end

local function new_window()
    return { highest = -1, accepted = {}, size = 0 }
end

local function add_counter(window, counter)
    window.accepted[counter] = true
    window.size = window.size + 1
    if window.size > 2 * REPLAY_WINDOW then
        window.size = 0
        for old in pairs(window.accepted) do
            if old <= window.highest - REPLAY_WINDOW then
                window.accepted[old] = nil
            else
                window.size = window.size + 1
            end
        end
    end
end

-- Take a counter, and return a reason and its text, or nil, nil, a note and its text.
local function take_counter(window, counter, direction)
    local highest = window.highest
    if counter > highest then
        window.highest = counter
        add_counter(window, counter)
        if highest >= 0 and counter > highest + 1 then
            local between = counter > highest + 2 and string.format("%d to %d", highest + 1, counter - 1)
            return nil, nil, e_gap, "missing so far: " .. (between or string.format("%d", highest + 1))
        end
    elseif direction == "down" then
        return "replay", string.format("counter %d is not above %d", counter, highest)
    elseif counter <= highest - REPLAY_WINDOW then
        return "replay", string.format("counter %d is below the window of %d", counter, highest)
    elseif window.accepted[counter] then
        return nil, nil, e_repeated, string.format("counter %d was accepted before; a receiver drops this frame", counter)
    else
        add_counter(window, counter)
        return nil, nil, e_late, string.format("counter %d arrives after %d", counter, highest)
    end
end

local function judge(frame, place)
    local device, direction = place.device, place.direction
    local flags = math.floor(frame:byte(2) / 16)
    local phase = flags % 8 >= FLAG_PHASE and 1 or 0
    local verdict = { notes = {}, device = device, direction = direction }
    local name = (device or "") .. "/" .. (direction or "") .. "/" .. place.hop
    local receiver = receivers[name] or { windows = {} }
    local key = device and direction and keys[device]
    if key then
        local epoch = receiver.epoch or key.epoch
        local started = epoch % 2 ~= phase and epoch < EPOCH_MAX
        local channel = channel_of(device, direction, started and epoch + 1 or epoch)
        verdict.channel = channel
        if not tag_matches(channel, frame) then
            if started and tag_matches(channel_of(device, direction, epoch), frame) then
                verdict.reason, verdict.detail = "critical", "the phase is not that of the key"
            else
                verdict.reason, verdict.detail = "tag", string.format("wrong for %s %s, epoch %d", device, direction, channel.epoch)
            end
            return verdict
        end
        verdict.authentic = true
        if flags % 2 == 1 then
            verdict.reason, verdict.detail = "critical", "reserved flag"
            return verdict
        end
        if started then
            verdict.notes[1] = { e_epoch, string.format("epoch %d ends epoch %d", epoch + 1, epoch) }
            receiver.windows = {}
        end
        receiver.epoch, phase = channel.epoch, 0
    elseif flags % 2 == 1 then
        verdict.reason, verdict.detail = "critical", "reserved flag"
        return verdict
    end
    receivers[name] = receiver
    verdict.receiver = receiver
    if direction then
        receiver.windows[phase] = receiver.windows[phase] or new_window()
        local counter = ((frame:byte(2) % 16 * 256 + frame:byte(3)) * 256 + frame:byte(4)) * 256 + frame:byte(5)
        local reason, detail, note, text = take_counter(receiver.windows[phase], counter, direction)
        verdict.reason, verdict.detail = reason, detail
        verdict.replayed = reason ~= nil or note == e_repeated
        verdict.notes[#verdict.notes + 1] = note and { note, text }
    end
    return verdict
end

-- Return the verdict on a frame whose length and version are right.
--   place   device and direction (or nil), and hop: where on the way the frame was captured
--   link    name of a serial line, where the device is not known; else nil
-- The verdict has device and direction; reason and detail if the frame is refused; authentic (nil without a key);
-- channel (keys); notes (pairs of expert information and text).
local function receive(frame, pinfo, place, link)
    local index = tonumber(pinfo.private["patrolink.frames"] or "0") + 1
    pinfo.private["patrolink.frames"] = tostring(index)
    local of_packet = verdicts[pinfo.number]
    if not of_packet then
        of_packet = {}
        verdicts[pinfo.number] = of_packet
    end
    if not of_packet[index] then
        if link then
            find_sender(frame, place, link)
        end
        of_packet[index] = judge(frame, place)
    end
    return of_packet[index]
end

-- Add a note about the newest time of a batch to the verdict on its frame, if it is before that of an earlier frame.
local function take_time(verdict, first_ms, newest_ms)
    local receiver = verdict.receiver
    if not receiver or verdict.replayed or verdict.timed then
        return
    end
    verdict.timed = true
    if receiver.newest_ms and first_ms < receiver.newest_ms then
        verdict.time_note = string.format("the batch begins %.3f s before the end of an earlier one", (receiver.newest_ms - first_ms) / 1000)
    end
    receiver.newest_ms = math.max(receiver.newest_ms or 0, newest_ms)
end
