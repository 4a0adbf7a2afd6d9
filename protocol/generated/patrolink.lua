-- Patrolink for Wireshark. Generated from protocol/schema.toml by protocol/generate.py; do not edit.
-- Copy it to Wireshark's folder for Lua plugins, or name it: tshark -X lua_script:patrolink.lua -r X.pcap

local VERSION, HEADER = 1, 5
local TAG_BYTES, LONG_TAG_BYTES = 8, 16
local LONG_TAG_FROM = 20
local FLAG_TAIL, FLAG_PHASE = 8, 4
local FLAG_ENCRYPTED = 2
local MAX_FRAME, MAX_BATCH = 1024, 255
local COUNTER_BITS, REPLAY_WINDOW = 28, 65536
local OPTIONAL, STATE = 6, 4

local TIME_MAX = 4294967295999 -- milliseconds: 32 bits of seconds

local EXTENSIONS = {
    [1] = "trace",
}

-- Legal lengths of their values.
local EXTENSION_BYTES = {
    [1] = { 1, 32 },
}

local MESSAGES = {
    [1] = { name = "hello", direction = "up", confidential = false, fields = {
        { name = "boot", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "schema_hash", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "minor", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "profiles", type = "u16", size = 2, low = 0, high = 65535, unit = "", bits = { "rice", "ptt", "video", "live_view", "firmware_update", "hazard_photo", "long_batch" } },
        { name = "heap_kb", type = "u16", size = 2, low = 0, high = 65535, unit = "KiB" },
        { name = "date_floor", type = "u16", size = 2, low = 0, high = 65535, unit = "d" },
        { name = "batch_fixes", type = "u8", size = 1, low = 1, high = 255, unit = "" },
        { name = "board", type = "str", size = 1, low = 0, high = 24, unit = "" },
        { name = "firmware", type = "str", size = 1, low = 0, high = 24, unit = "" },
        { name = "runtime", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "content", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "rollback_floor", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "platform", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
    } },
    [2] = { name = "position_batch", direction = "up", confidential = true },
    [3] = { name = "device_status", direction = "up", confidential = false, fields = {
        { name = "uptime_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
        { name = "gps_mode", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "silent", [1] = "no_fix", [2] = "fix_2d", [3] = "fix_3d" } },
        { name = "gps_sats", type = "u8", size = 1, low = 0, high = 254, unknown = 255, unit = "" },
        { name = "battery_pct", type = "u8", size = 1, low = 0, high = 100, unknown = 255, unit = "%" },
        { name = "charge", type = "u8", size = 1, low = 0, high = 3, unknown = 255, unit = "", names = { [0] = "discharging", [1] = "charging", [2] = "full", [3] = "fault" } },
        { name = "signal_dbm", type = "i8", size = 1, low = -127, high = 0, unknown = -128, unit = "dBm" },
        { name = "temperature_c", type = "i8", size = 1, low = -127, high = 127, unknown = -128, unit = "degC" },
        { name = "storage_free_pct", type = "u8", size = 1, low = 0, high = 100, unknown = 255, unit = "%" },
        { name = "errors", type = "u16", size = 2, low = 0, high = 65535, unit = "", bits = { "gps_silent", "clock_unset", "storage_full", "storage_fault", "modem_fault", "camera_fault", "microphone_fault", "outbox_dropped", "key_exhausted", "overheated" } },
        { name = "heap_free_kb", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "KiB" },
        { name = "queue_frames", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "dropped_frames", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "reconnects", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "link", type = "u8", size = 1, low = 0, high = 5, unit = "", names = { [0] = "modem", [1] = "sim", [2] = "network", [3] = "pdp", [4] = "session", [5] = "up" } },
        { name = "rung", type = "u8", size = 1, low = 0, high = 6, unit = "", names = { [0] = "well", [1] = "retry", [2] = "reopen", [3] = "pdp", [4] = "radio", [5] = "modem_reset", [6] = "board_reset" } },
        { name = "nmea_sentences", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "nmea_errors", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "fixes", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
    } },
    [4] = { name = "no_fix", direction = "up", confidential = true, pairs = { { 5, 6, ordered = false } }, fields = {
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "since_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "searching", [1] = "receiver_silent", [2] = "no_sky", [3] = "jammed", [4] = "switched_off" } },
        { name = "sats_in_view", type = "u8", size = 1, low = 0, high = 254, unknown = 255, unit = "" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "cell", type = "str", size = 1, low = 0, high = 32, unit = "" },
    } },
    [5] = { name = "event", direction = "up", confidential = true, pairs = { { 7, 8, ordered = false } }, fields = {
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "sos", [2] = "man_down", [3] = "geofence_enter", [4] = "geofence_leave", [5] = "recording_start", [6] = "recording_stop", [7] = "tamper", [8] = "low_battery", [9] = "live_view_start", [10] = "live_view_stop", [11] = "power_off", [12] = "storage_low" } },
        { name = "phase", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "raised", [1] = "updated", [2] = "cancelled", [3] = "cleared" } },
        { name = "ack_wanted", type = "u8", size = 1, low = 0, high = 1, unit = "" },
        { name = "cause", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "button", [1] = "motion", [2] = "dispatcher", [3] = "rule", [4] = "schedule", [5] = "fault" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "hacc_m", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "m" },
        { name = "fix_age_s", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "s" },
        { name = "ref", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "value", type = "i32", size = 4, low = -2147483647, high = 2147483647, unknown = -2147483648, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [6] = { name = "reject", direction = "both", confidential = false, fields = {
        { name = "refused_counter", type = "u32", size = 4, low = 0, high = 268435455, unit = "" },
        { name = "message_type", type = "u8", size = 1, low = 0, high = 31, unit = "" },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "detail", type = "str", size = 1, low = 0, high = 40, unit = "" },
    } },
    [7] = { name = "ptt_burst", direction = "up", confidential = true, pairs = { { 8, 7, ordered = true } }, fields = {
        { name = "group", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "role", type = "u8", size = 1, low = 0, high = 1, unit = "", names = { [0] = "talked", [1] = "heard" } },
        { name = "outcome", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "granted", [1] = "queued", [2] = "denied", [3] = "failed", [4] = "abandoned", [5] = "revoked" } },
        { name = "start_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "duration_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "access_ms", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "ms" },
        { name = "packets", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "lost", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "jitter_ms", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "ms" },
        { name = "ssrc", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
    } },
    [8] = { name = "text", direction = "both", confidential = true, pairs = { { 5, 6, ordered = false } }, fields = {
        { name = "text_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "priority", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "routine", [1] = "notice", [2] = "alert", [3] = "emergency" } },
        { name = "ack", type = "u8", size = 1, low = 0, high = 5, unit = "", names = { [0] = "none", [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved" } },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "sender", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 240, unit = "" },
    } },
    [9] = { name = "text_state", direction = "both", confidential = true, fields = {
        { name = "text_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 1, high = 6, unit = "", names = { [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved", [6] = "declined" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
    } },
    [10] = { name = "duty", direction = "up", confidential = true, pairs = { { 4, 5, ordered = false } }, fields = {
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "check_in", [2] = "check_out", [3] = "post_arrive", [4] = "post_leave", [5] = "welfare_ok", [6] = "welfare_missed" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "post", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "wearer", type = "str", size = 1, low = 0, high = 32, unit = "" },
    } },
    [11] = { name = "patrol_summary", direction = "up", confidential = true, pairs = { { 1, 2, ordered = true } }, fields = {
        { name = "start_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "end_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "distance_m", type = "u32", size = 4, low = 0, high = 4294967295, unit = "m" },
        { name = "fixes", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "posts", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "events", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "bursts", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "clips", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "no_fix_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
        { name = "offline_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
    } },
    [12] = { name = "hazard", direction = "up", confidential = true, pairs = { { 5, 6, ordered = false } }, fields = {
        { name = "hazard_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "other", [1] = "fire", [2] = "flood", [3] = "traffic", [4] = "stolen_vehicle", [5] = "fraud", [6] = "missing_person", [7] = "crowd", [8] = "infrastructure", [9] = "medical" } },
        { name = "severity", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "information", [1] = "minor", [2] = "serious", [3] = "life" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "photo_clip", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "photo_sha256", type = "bytes", size = 1, low = 32, high = 32, unknown = 0, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 200, unit = "" },
    } },
    [13] = { name = "ptt_status", direction = "up", confidential = true, fields = {
        { name = "room", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "groups", type = "bytes", size = 1, low = 0, high = 250, unit = "" },
    } },
    [14] = { name = "firmware_request", direction = "up", confidential = false, fields = {
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "offset", type = "u32", size = 4, low = 0, high = 16777471, unit = "B" },
        { name = "max_bytes", type = "u16", size = 2, low = 1, high = 900, unit = "B" },
    } },
    [15] = { name = "firmware_block", direction = "down", confidential = false, fields = {
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "offset", type = "u32", size = 4, low = 0, high = 16777471, unit = "B" },
        { name = "data", type = "bytes", size = 2, low = 1, high = 900, unit = "" },
    } },
    [18] = { name = "time_sync", direction = "both", confidential = false, pairs = { { 2, 3, ordered = false } }, fields = {
        { name = "originate_ms", type = "u64", size = 8, low = 0, high = 4294967295999, unit = "ms" },
        { name = "receive_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "transmit_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
    } },
    [20] = { name = "event_state", direction = "down", confidential = true, fields = {
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved", [6] = "false_alarm" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "eta_s", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "s" },
        { name = "who", type = "str", size = 1, low = 0, high = 40, unit = "" },
    } },
    [21] = { name = "ptt_group", direction = "down", confidential = true, fields = {
        { name = "group", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "group", [1] = "private", [2] = "dynamic" } },
        { name = "rights", type = "u8", size = 1, low = 0, high = 255, unit = "", bits = { "listen", "talk", "emergency", "broadcast" } },
        { name = "priority", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "rank", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "codec", type = "u8", size = 1, low = 0, high = 1, unit = "", names = { [0] = "pcma", [1] = "opus" } },
        { name = "ssrc", type = "u32", size = 4, low = 2147483648, high = 4294967295, unit = "" },
        { name = "hub_ssrc", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "key", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "wrapped", type = "bytes", size = 1, low = 0, high = 40, unit = "" },
        { name = "floor_port", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "media_port", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "host", type = "str", size = 1, low = 0, high = 64, unit = "" },
        { name = "name", type = "str", size = 1, low = 0, high = 40, unit = "" },
    } },
    [22] = { name = "clip_manifest", direction = "up", confidential = true, pairs = { { 6, 5, ordered = true }, { 12, 13, ordered = false } }, fields = {
        { name = "clip_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "trigger", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "button", [1] = "sos", [2] = "man_down", [3] = "dispatcher", [4] = "geofence", [5] = "photo" } },
        { name = "codec", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "mjpeg_avi", [2] = "h264_mp4", [3] = "jpeg", [4] = "pcma_wav", [5] = "opus_ogg" } },
        { name = "start_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "duration_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "pre_event_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "segments", type = "u16", size = 2, low = 1, high = 65535, unit = "" },
        { name = "bytes", type = "u32", size = 4, low = 0, high = 4294967295, unit = "B" },
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "previous_chain", type = "bytes", size = 1, low = 32, high = 32, unknown = 0, unit = "" },
        { name = "chain", type = "bytes", size = 1, low = 32, high = 32, unit = "" },
        { name = "signer", type = "bytes", size = 1, low = 33, high = 33, unknown = 0, unit = "" },
        { name = "signature", type = "bytes", size = 1, low = 64, high = 64, unknown = 0, unit = "" },
    } },
    [23] = { name = "clip_state", direction = "both", confidential = true, fields = {
        { name = "clip_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "recording", [2] = "kept", [3] = "uploading", [4] = "uploaded", [5] = "verified", [6] = "released", [7] = "damaged", [8] = "locked" } },
        { name = "bytes_done", type = "u32", size = 4, low = 0, high = 4294967295, unit = "B" },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
    } },
    [24] = { name = "command", direction = "down", confidential = true, fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "action", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "start_recording", [2] = "stop_recording", [3] = "snapshot", [4] = "live_view_start", [5] = "live_view_stop", [6] = "call", [7] = "configure", [8] = "locate", [9] = "reboot", [10] = "stun", [11] = "revive", [12] = "rotate_key", [13] = "status", [14] = "preserve_clip" } },
        { name = "expires_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unit = "ms" },
        { name = "operator", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "number", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "name", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "value", type = "str", size = 1, low = 0, high = 120, unit = "" },
    } },
    [25] = { name = "answer", direction = "up", confidential = true, fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "result", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "done", [1] = "started", [2] = "refused", [3] = "unsupported", [4] = "expired", [5] = "failed", [6] = "busy" } },
        { name = "time_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unknown = 0, unit = "ms" },
        { name = "ref", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [26] = { name = "firmware", direction = "down", confidential = false, fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "action", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "install", [2] = "cancel" } },
        { name = "expires_ms", type = "u64", size = 8, low = 1, high = 4294967295999, unit = "ms" },
        { name = "operator", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "bytes", type = "u32", size = 4, low = 257, high = 16777472, unknown = 0, unit = "B" },
        { name = "rollback_floor", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "version", type = "str", size = 1, low = 0, high = 24, unit = "" },
    } },
    [27] = { name = "firmware_status", direction = "up", confidential = false, fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "fetching", [2] = "deferred", [3] = "installed", [4] = "confirmed", [5] = "refused", [6] = "failed", [7] = "rolled_back", [8] = "cancelled" } },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "none", [1] = "no_slots", [2] = "expired", [3] = "busy", [4] = "signature", [5] = "board", [6] = "architecture", [7] = "platform", [8] = "rollback", [9] = "base", [10] = "format", [11] = "damaged", [12] = "no_space", [13] = "storage", [14] = "sos", [15] = "voice", [16] = "recording", [17] = "battery", [18] = "replaced" } },
        { name = "content", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "rollback_floor", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [28] = { name = "certify", direction = "both", confidential = false, fields = {
        { name = "operation", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "enter", [2] = "leave", [3] = "echo", [4] = "report_counters", [5] = "send_vector", [6] = "power_cut", [7] = "result" } },
        { name = "seconds", type = "u16", size = 2, low = 0, high = 65535, unit = "s" },
        { name = "frames_accepted", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "frames_refused", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "payload", type = "bytes", size = 1, low = 0, high = 200, unit = "" },
    } },
}

local COLUMNS = {
    { name = "time", unit = "ms", scale = 1, low = 0, high = 4294967295999, divisor = { 0, 0, 0 }, bits = { 32, 32, 32 }, k = -1, signed = true, optional = false, modulus = 0 },
    { name = "lat", unit = "deg", scale = 10000000, low = -900000000, high = 900000000, divisor = { 100, 10, 1 }, bits = { 25, 28, 31 }, k = -1, signed = true, optional = false, modulus = 0 },
    { name = "lon", unit = "deg", scale = 10000000, low = -1800000000, high = 1800000000, divisor = { 100, 10, 1 }, bits = { 26, 29, 32 }, k = -1, signed = true, optional = false, modulus = 0 },
    { name = "state", unit = "bits", scale = 1, low = 1, high = 31, divisor = { 1, 1, 1 }, bits = { 5, 5, 5 }, k = 4, signed = false, optional = false, modulus = 0 },
    { name = "alt", unit = "m", scale = 1000, low = -1000000, high = 20000000, divisor = { 1000, 500, 100 }, bits = { 18, 18, 18 }, k = 9, signed = true, optional = true, modulus = 0 },
    { name = "speed", unit = "m/s", scale = 1000, low = 0, high = 1000000, divisor = { 100, 100, 100 }, bits = { 14, 14, 14 }, k = 5, signed = false, optional = true, modulus = 0 },
    { name = "course", unit = "deg", scale = 100, low = 0, high = 35999, divisor = { 200, 200, 200 }, bits = { 8, 8, 8 }, k = -1, signed = false, optional = true, modulus = 181 },
    { name = "hacc", unit = "m", scale = 1000, low = 0, high = 1000000, divisor = { 1000, 1000, 1000 }, bits = { 11, 11, 11 }, k = 3, signed = false, optional = true, modulus = 0 },
    { name = "sats", unit = "1", scale = 1, low = 0, high = 99, divisor = { 1, 1, 1 }, bits = { 7, 7, 7 }, k = 4, signed = false, optional = true, modulus = 0 },
    { name = "battery", unit = "%", scale = 1, low = 0, high = 100, divisor = { 1, 1, 1 }, bits = { 7, 7, 7 }, k = -1, signed = false, optional = true, modulus = 0 },
}

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

-- --- SHA-256 (FIPS 180-4), HMAC (RFC 2104), AES-128 in counter mode (FIPS 197, SP 800-38A section 6.5) --------------
-- In plain Lua: Wireshark has no hashes for Lua, and ciphers only from version 4.4 on.

local new_hmac, hmac, new_aes, aes_ctr, bxor

do
    -- Lua 5.2 has the library bit32; Lua 5.4 has operators, which Lua 5.2 cannot parse.
    local bits = bit32
        or load([[return {
            band = function(a, b) return a & b end,
            bxor = function(a, b, c, d, e) return a ~ b ~ (c or 0) ~ (d or 0) ~ (e or 0) end,
            bnot = function(a) return ~a & 0xFFFFFFFF end,
            rshift = function(a, n) return a >> n end,
            rrotate = function(a, n) return (a >> n | a << 32 - n) & 0xFFFFFFFF end,
        }]])()
    local band, bnot, rshift, rrotate = bits.band, bits.bnot, bits.rshift, bits.rrotate
    bxor = bits.bxor
    local WORD = 4294967296
    local byte, char = string.byte, string.char

    local K = {}
    for word in ([[
        428a2f98 71374491 b5c0fbcf e9b5dba5 3956c25b 59f111f1 923f82a4 ab1c5ed5 d807aa98 12835b01 243185be 550c7dc3
        72be5d74 80deb1fe 9bdc06a7 c19bf174 e49b69c1 efbe4786 0fc19dc6 240ca1cc 2de92c6f 4a7484aa 5cb0a9dc 76f988da
        983e5152 a831c66d b00327c8 bf597fc7 c6e00bf3 d5a79147 06ca6351 14292967 27b70a85 2e1b2138 4d2c6dfc 53380d13
        650a7354 766a0abb 81c2c92e 92722c85 a2bfe8a1 a81a664b c24b8b70 c76c51a3 d192e819 d6990624 f40e3585 106aa070
        19a4c116 1e376c08 2748774c 34b0bcb5 391c0cb3 4ed8aa4a 5b9cca4f 682e6ff3 748f82ee 78a5636f 84c87814 8cc70208
        90befffa a4506ceb bef9a3f7 c67178f2]]):gmatch("%x+") do
        K[#K + 1] = tonumber(word, 16)
    end
    local START =
        { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }

    local function be32(value)
        return char(
            math.floor(value / 16777216) % 256,
            math.floor(value / 65536) % 256,
            math.floor(value / 256) % 256,
            value % 256
        )
    end

    local function word_at(text, at)
        local a, b, c, d = byte(text, at, at + 3)
        return ((a * 256 + b) * 256 + c) * 256 + d
    end

    local w = {}
    local function compress(state, text, at)
        for i = 1, 16 do
            w[i] = word_at(text, at + 4 * i - 4)
        end
        for i = 17, 64 do
            local x, y = w[i - 15], w[i - 2]
            w[i] = (
                w[i - 16]
                + bxor(rrotate(x, 7), rrotate(x, 18), rshift(x, 3))
                + w[i - 7]
                + bxor(rrotate(y, 17), rrotate(y, 19), rshift(y, 10))
            ) % WORD
        end
        local a, b, c, d, e, f, g, h = state[1], state[2], state[3], state[4], state[5], state[6], state[7], state[8]
        for i = 1, 64 do
            local t = h
                + bxor(rrotate(e, 6), rrotate(e, 11), rrotate(e, 25))
                + bxor(band(e, f), band(bnot(e), g))
                + K[i]
                + w[i]
            local u = bxor(rrotate(a, 2), rrotate(a, 13), rrotate(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
            h, g, f, e, d, c, b, a = g, f, e, (d + t) % WORD, c, b, a, (t + u) % WORD
        end
        local sums = { a, b, c, d, e, f, g, h }
        for i = 1, 8 do
            sums[i] = (sums[i] + state[i]) % WORD
        end
        return sums
    end

    -- Return the digest of a text after `before` bytes (whole blocks) that led to `state`.
    local function finish(state, before, text)
        local size = before + #text
        text = text .. "\128" .. ("\0"):rep((55 - size) % 64) .. be32(math.floor(size / 536870912)) .. be32(size * 8 % WORD)
        for at = 1, #text, 64 do
            state = compress(state, text, at)
        end
        local out = {}
        for i = 1, 8 do
            out[i] = be32(state[i])
        end
        return table.concat(out)
    end

    -- Return the states after the two pads of a key of at most 64 bytes.
    function new_hmac(key)
        key = key .. ("\0"):rep(64 - #key)
        local function pad(mask)
            local padded = key:gsub(".", function(c)
                return char(bxor(byte(c), mask))
            end)
            return compress(START, padded, 1)
        end
        return { inner = pad(0x36), outer = pad(0x5C) }
    end

    function hmac(key, text)
        return finish(key.outer, 64, finish(key.inner, 64, text))
    end

    local S, T = {}, { {}, {}, {}, {} }
    local function double(x)
        return x < 128 and 2 * x or bxor(2 * x, 0x11B)
    end
    do
        -- FIPS 197 section 5.1.1: the inverse in GF(2^8) by powers of the generator 3, then the affine map.
        local power, exponent, x = {}, {}, 1
        for i = 0, 254 do
            power[i], exponent[x] = x, i
            x = bxor(x, double(x))
        end
        for i = 0, 255 do
            local inverse = i == 0 and 0 or power[(255 - exponent[i]) % 255]
            local s = 0x63
            for turn = 0, 4 do
                s = bxor(s, inverse * 2 ^ turn % 256, math.floor(inverse * 2 ^ turn / 256))
            end
            S[i] = s
            local word = ((double(s) * 256 + s) * 256 + s) * 256 + bxor(s, double(s))
            for column = 1, 4 do
                T[column][i] = word
                word = rrotate(word, 8)
            end
        end
    end

    -- Return the 44 words of the key schedule of a key of 16 bytes.
    function new_aes(key)
        local words, factor = {}, 1
        for i = 1, 4 do
            words[i] = word_at(key, 4 * i - 3)
        end
        for i = 5, 44 do
            local x = words[i - 1]
            if i % 4 == 1 then
                x = S[band(rshift(x, 16), 255)] * 16777216
                    + S[band(rshift(x, 8), 255)] * 65536
                    + S[band(x, 255)] * 256
                    + S[rshift(x, 24)]
                x = bxor(x, factor * 16777216)
                factor = double(factor)
            end
            words[i] = bxor(words[i - 4], x)
        end
        return words
    end

    local function encrypt_block(words, a, b, c, d)
        local T1, T2, T3, T4 = T[1], T[2], T[3], T[4]
        local function mix(p, q, r, s, word)
            return bxor(T1[rshift(p, 24)], T2[band(rshift(q, 16), 255)], T3[band(rshift(r, 8), 255)], T4[band(s, 255)], word)
        end
        local function last(p, q, r, s, word)
            return bxor(
                S[rshift(p, 24)] * 16777216
                    + S[band(rshift(q, 16), 255)] * 65536
                    + S[band(rshift(r, 8), 255)] * 256
                    + S[band(s, 255)],
                word
            )
        end
        a, b, c, d = bxor(a, words[1]), bxor(b, words[2]), bxor(c, words[3]), bxor(d, words[4])
        for i = 5, 40, 4 do
            a, b, c, d = mix(a, b, c, d, words[i]), mix(b, c, d, a, words[i + 1]), mix(c, d, a, b, words[i + 2]), mix(d, a, b, c, words[i + 3])
        end
        return last(a, b, c, d, words[41]), last(b, c, d, a, words[42]), last(c, d, a, b, words[43]), last(d, a, b, c, words[44])
    end

    -- Return the text XORed with the key stream. Counter block: header (5 bytes), 7 zero bytes, number of the block.
    function aes_ctr(words, header, text)
        local out = {}
        local first, second = word_at(header, 1), byte(header, 5) * 16777216
        for block = 0, math.floor((#text - 1) / 16) do
            local stream = { encrypt_block(words, first, second, 0, block) }
            for i = 1, 4 do
                local at = 16 * block + 4 * i - 3
                local part = text:sub(at, at + 3)
                local word = bxor(stream[i], word_at(part .. ("\0"):rep(4 - #part), 1))
                out[#out + 1] = be32(word):sub(1, #part)
            end
        end
        return table.concat(out)
    end
end

-- --- keys file ----------------------------------------------------------------------------------------------------
-- TOML (toml.io, version 1.0): tables, dotted keys, strings, integers and inline tables; values of other types may
-- stand outside of [devices] and are skipped. The rules for [devices] are those of host_tools/patrolink/core/keys.py.

local load_keys

do
    local EPOCH_MAX = 4294967295
    local OTHER = {} -- a value of a type that no key has
    local ESCAPES = { b = "\b", t = "\t", n = "\n", f = "\f", r = "\r", ['"'] = '"', ["\\"] = "\\" }

    local Scanner = {}
    Scanner.__index = Scanner

    function Scanner:fail(what)
        local _, lines = self.text:sub(1, self.at):gsub("\n", "")
        error({ keys = "line " .. lines + 1 .. ": " .. what }, 0)
    end

    -- Match an anchored pattern, move behind it and return its captures; nil without a match.
    function Scanner:take(pattern)
        local first, last, a = self.text:find("^" .. pattern, self.at)
        if first then
            self.at = last + 1
            return a or self.text:sub(first, last)
        end
    end

    function Scanner:skip_lines()
        repeat
        until not (self:take("[ \t\r\n]+") or self:take("#[^\n]*"))
    end

    function Scanner:string()
        local literal = self:take("'([^'\n]*)'")
        if literal then
            return literal
        end
        self.at = self.at + 1
        local parts = {}
        while not self:take('"') do
            local plain = self:take('[^"\\\n]+')
            local escape = not plain and self:take("\\(.)")
            if not plain and not ESCAPES[escape] then
                self:fail("a string without its end, or with an escape that no key needs")
            end
            parts[#parts + 1] = plain or ESCAPES[escape]
        end
        return table.concat(parts)
    end

    -- Return the parts of a dotted key.
    function Scanner:key()
        local path = {}
        repeat
            self:take("[ \t]+")
            local part = self:take("[%w_-]+") or (self.text:find("^[\"']", self.at) and self:string())
            if not part then
                self:fail("a name is expected")
            end
            path[#path + 1] = part
            self:take("[ \t]+")
        until not self:take("%.")
        return path
    end

    local function insert(tree, path, value, scanner)
        for i = 1, #path - 1 do
            tree[path[i]] = tree[path[i]] or {}
            tree = tree[path[i]]
            if type(tree) ~= "table" or tree == OTHER then
                scanner:fail(path[i] .. " is no table")
            end
        end
        local name = path[#path]
        if tree[name] ~= nil then
            scanner:fail("a name is given twice")
        end
        tree[name] = value
    end

    function Scanner:pair(tree)
        local path = self:key()
        if not self:take("=[ \t]*") then
            self:fail("= is expected")
        end
        insert(tree, path, self:value(), self)
    end

    function Scanner:value()
        if self:take('""".-"""') or self:take("'''.-'''") then
            return OTHER
        elseif self.text:find("^[\"']", self.at) then
            return self:string()
        elseif self:take("{") then
            local tree = {}
            while not self:take("[ \t]*}") do
                self:pair(tree)
                if not self:take("[ \t]*,") and not self.text:find("^[ \t]*}", self.at) then
                    self:fail("} is expected")
                end
            end
            return tree
        elseif self:take("%[") then
            self:skip_lines()
            while not self:take("%]") do
                self:value()
                self:skip_lines()
                self:take(",")
                self:skip_lines()
                if self.at > #self.text then
                    self:fail("] is expected")
                end
            end
            return OTHER
        end
        local word = self:take("[%w+._:-]+") or self:fail("a value is expected")
        local digits = word:gsub("_", "")
        if digits:find("^[+-]?%d+$") then
            return tonumber((digits:gsub("^%+", "")))
        elseif digits:find("^0x%x+$") then
            return tonumber(digits:sub(3), 16)
        end
        return OTHER
    end

    local function parse(text)
        local scanner = setmetatable({ text = text, at = 1 }, Scanner)
        local root = {}
        local tree = root
        scanner:skip_lines()
        while scanner.at <= #text do
            if scanner:take("%[%[") then
                scanner:key()
                tree = {}
                if not scanner:take("%]%]") then
                    scanner:fail("]] is expected")
                end
            elseif scanner:take("%[") then
                tree = root
                for _, part in ipairs(scanner:key()) do
                    tree[part] = tree[part] or {}
                    tree = tree[part]
                    if type(tree) ~= "table" or tree == OTHER then
                        scanner:fail(part .. " is no table")
                    end
                end
                if not scanner:take("%]") then
                    scanner:fail("] is expected")
                end
            else
                scanner:pair(tree)
            end
            scanner:take("[ \t]+")
            scanner:take("#[^\n]*")
            if scanner.at <= #text and not scanner:take("\r?\n") then
                scanner:fail("the end of the line is expected")
            end
            scanner:skip_lines()
        end
        return root.devices
    end

    local function device_key(device, entry)
        local epoch = 0
        if type(entry) == "table" and entry ~= OTHER then
            for name in pairs(entry) do
                if name ~= "key" and name ~= "epoch" then
                    error({ keys = "the entry of " .. device .. " needs key and epoch, and nothing else" }, 0)
                end
            end
            entry, epoch = entry.key, entry.epoch
        end
        if type(entry) ~= "string" or #entry ~= 64 or entry:find("%X") then
            error({ keys = "the key of " .. device .. " must be 64 hexadecimal digits" }, 0)
        end
        if type(epoch) ~= "number" or epoch < 0 or epoch > EPOCH_MAX then
            error({ keys = "the epoch of " .. device .. " must be a whole number from 0 to " .. EPOCH_MAX }, 0)
        end
        local secret = entry:gsub("%x%x", function(digits)
            return string.char(tonumber(digits, 16))
        end)
        return { secret = secret, epoch = epoch }
    end

    local function read(path)
        local file, why = io.open(path, "rb")
        if not file then
            error({ keys = why }, 0)
        end
        local text = file:read("*a")
        file:close()
        if not text then
            error({ keys = "it cannot be read" }, 0)
        end
        local devices = parse(text)
        if type(devices) ~= "table" or devices == OTHER then
            error({ keys = "no [devices] table" }, 0)
        end
        local keys = {}
        for device, entry in pairs(devices) do
            if #device > 32 or not device:find("^[%w_-]+$") then
                -- Not shown: it may be a key in the place of the id.
                error({ keys = 'a name in [devices] is no device id; write "id" = "key", in this order' }, 0)
            end
            keys[device] = device_key(device, entry)
        end
        return keys
    end

    -- Return the keys of a file by device id, and nil or why there are none.
    function load_keys(path)
        if path == "" then
            return {}, nil
        end
        local fine, result = pcall(read, path)
        if fine then
            return result, nil
        elseif type(result) ~= "table" then
            error(result, 0)
        end
        return {}, path .. ": " .. result.keys
    end
end

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
-- --- bits ---------------------------------------------------------------------------------------------------------
-- Numbers are doubles, exact up to 2^53: sums and products are used instead of shifts.

local Bits = {}
Bits.__index = Bits

local function bits_of(range)
    return setmetatable({ text = range:raw(), at = 0, size = range:len() * 8 }, Bits)
end

function Bits:get(n)
    if self.at + n > self.size then
        refuse("length", "the batch ends early")
    end
    local value = 0
    while n > 0 do
        local have = 8 - self.at % 8
        local take = n < have and n or have
        local byte = self.text:byte(math.floor(self.at / 8) + 1)
        value = value * 2 ^ take + math.floor(byte / 2 ^ (have - take)) % 2 ^ take
        self.at = self.at + take
        n = n - take
    end
    return math.floor(value) -- an integer in Lua 5.4
end

function Bits:eg(k)
    local n = 0
    while self:get(1) == 0 do
        n = n + 1
        if n + k > 36 then
            refuse("range", "a code of more than 36 bits after the first one")
        end
    end
    return math.floor(2 ^ (n + k) - 2 ^ k) + self:get(n + k)
end

local function unzigzag(code)
    return code % 2 == 1 and -math.floor((code + 1) / 2) or math.floor(code / 2)
end

local function signed(value, n)
    return value >= 2 ^ (n - 1) and math.floor(value - 2 ^ n) or value
end

local function runs(bits, n, k)
    local codes = {}
    while #codes < n do
        local run = bits:eg(k)
        if run > n - #codes then
            refuse("range", "a run past the end")
        end
        for _ = 1, run do
            codes[#codes + 1] = 0
        end
        if #codes < n then
            codes[#codes + 1] = bits:eg(0) + 1
        end
    end
    return codes
end

local function rice(bits, n, k)
    local codes = {}
    for i = 1, n do
        local q = 0
        while q < 12 and bits:get(1) == 0 do
            q = q + 1
        end
        codes[i] = math.floor(q * 2 ^ k) + (q < 12 and bits:get(k) or bits:eg(k + 3))
    end
    return codes
end

-- Return the stored values of a column and the name of its coding.
local function column(bits, first, n, width, is_signed, modulus)
    local values = { first }
    if n == 1 then
        return values, "one value"
    end
    local second, kind = bits:get(1) == 1, bits:get(2)
    if kind == 3 then
        if second then
            refuse("range", "raw second differences")
        end
        for i = 2, n do
            local value = bits:get(width)
            values[i] = is_signed and signed(value, width) or value
        end
        return values, "raw, " .. width .. " bits"
    end
    local delta, said, codes = 0, second and "second differences, " or "first differences, ", nil
    local sum = first
    if second then
        delta = unzigzag(bits:eg(0))
        sum = sum + delta
        values[2] = sum
    end
    local left = n - #values
    if kind == 0 then
        codes, said = {}, said .. "constant"
        for i = 1, left do
            codes[i] = 0
        end
    elseif kind == 1 then
        local w = bits:get(6)
        if w < 1 or w > 34 then
            refuse("range", "difference width " .. w)
        end
        codes, said = {}, said .. w .. " bits each"
        for i = 1, left do
            codes[i] = bits:get(w)
        end
    else
        local p = bits:get(4)
        said = said .. (p < 13 and "Rice, p = " .. p or "zero runs, p = " .. p)
        codes = p < 13 and rice(bits, left, p) or runs(bits, left, p - 11)
    end
    for i = 1, left do
        delta = (second and delta or 0) + unzigzag(codes[i])
        sum = sum + delta
        values[#values + 1] = sum
    end
    if modulus > 0 then
        for i = 2, n do
            values[i] = values[i] % modulus
        end
    end
    return values, said
end

-- Return resolution, tick, columns (lists of values in display units, or UNKNOWN) and the names of the codings.
local function batch(range)
    local bits = bits_of(range)
    local n = bits:eg(0) + 1
    if n > MAX_BATCH then
        refuse("range", n .. " rows")
    end
    local r, tick = bits:get(2) + 1, ({ 1000, 100, 10, 1 })[bits:get(2) + 1]
    if r > 3 then
        refuse("range", "resolution code 3")
    end
    local present = bits:get(1) == 1 and 2 ^ OPTIONAL - 1 or bits:get(OPTIONAL)
    local start = bits:get(32) * 1000
    if tick < 1000 then
        local ms = bits:get(10)
        if ms > 999 then
            refuse("range", "millisecond " .. ms)
        end
        start = start + ms
    end
    local columns, codings = {}, {}
    columns[1], codings[1] = column(bits, 0, n, 32, true, 0)
    for i = 1, n do
        columns[1][i] = start + columns[1][i] * tick
        if columns[1][i] < 0 or columns[1][i] > TIME_MAX then
            refuse("range", "time")
        end
    end
    for j = 2, #COLUMNS do
        local c = COLUMNS[j]
        local here = true
        if c.optional then
            here = present % 2 == 1
            present = math.floor(present / 2)
        end
        if here then
            local width, divisor = c.bits[r], c.divisor[r]
            local least = c.low / divisor
            local first = c.k < 0 and bits:get(width) or bits:eg(c.k)
            if c.signed and not c.optional then
                first = signed(first, width)
            elseif c.signed and first > 0 then
                first = unzigzag(first - 1) + 1 - least
            end
            local values, said = column(bits, first, n, width, c.signed and not c.optional, c.modulus)
            local floor = c.optional and 0 or least
            local offset = c.optional and (c.signed and least or 0) - 1 or 0
            for i = 1, n do
                local v = values[i]
                if v < floor or (v + offset) * divisor >= c.high + divisor or (c.modulus > 0 and v >= c.modulus) then
                    refuse("range", c.name)
                end
                values[i] = c.optional and v == 0 and UNKNOWN or (v + offset) * divisor
            end
            columns[j], codings[j] = values, said
        else
            columns[j], codings[j] = {}, "absent"
            for i = 1, n do
                columns[j][i] = UNKNOWN
            end
        end
    end
    local spare = bits.size - bits.at
    if spare > 7 or bits:get(spare) ~= 0 then
        refuse("length", "bytes or bits after the batch")
    end
    return n, r + 4, tick, columns, codings
end

local function show_batch(range, tree, verdict)
    local n, resolution, tick, columns, codings = batch(range)
    tree:add(f_rows, range, n)
    tree:add(f_resolution, range, resolution)
    tree:add(f_tick, range, tick)
    for j, said in ipairs(codings) do
        tree:add(f_coding, range, COLUMNS[j].name .. ": " .. said)
    end
    for i = 1, n do
        if columns[STATE][i] % 4 == 0 then
            refuse("range", "mode 0")
        end
    end
    local newest_ms = columns[1][1]
    for i = 2, n do
        newest_ms = math.max(newest_ms, columns[1][i])
    end
    take_time(verdict, columns[1][1], newest_ms)
    if verdict.time_note then
        tree:add_proto_expert_info(e_time_back, verdict.time_note)
    end
    for i = 1, n do
        local row = tree:add(f_row, range, "row " .. i)
        local ms = columns[1][i]
        row:add(row_fields[1], range, NSTime.new(math.floor(ms / 1000), ms % 1000 * 1000000))
        if i > 1 and ms < columns[1][i - 1] then
            row:add_proto_expert_info(e_time_back, string.format("%.3f s before the row above", (columns[1][i - 1] - ms) / 1000))
        end
        for j = 2, #COLUMNS do
            local value = columns[j][i]
            if value ~= UNKNOWN then
                row:add(row_fields[j], range, value / COLUMNS[j].scale)
            end
        end
    end
    return n
end


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
