-- Patrolink for Wireshark. Generated from protocol/schema.toml by protocol/generate.py; do not edit.
--   tshark -X lua_script:protocol/generated/patrolink.lua -r X.pcap

local VERSION, HEADER = 1, 5
local TAG_BYTES, LONG_TAG_BYTES = 8, 16
local LONG_TAG_FROM = 20
local FLAG_TAIL, FLAG_PHASE = 8, 4
local FLAG_ENCRYPTED = 2
local MAX_FRAME, MAX_BATCH = 1024, 255
local OPTIONAL, STATE = 6, 4

local MESSAGES = {
    [1] = { name = "hello", direction = "up", fields = {
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
    [2] = { name = "position_batch", direction = "up" },
    [3] = { name = "device_status", direction = "up", fields = {
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
    [4] = { name = "no_fix", direction = "up", fields = {
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "since_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "searching", [1] = "receiver_silent", [2] = "no_sky", [3] = "jammed", [4] = "switched_off" } },
        { name = "sats_in_view", type = "u8", size = 1, low = 0, high = 254, unknown = 255, unit = "" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "cell", type = "str", size = 1, low = 0, high = 32, unit = "" },
    } },
    [5] = { name = "event", direction = "up", fields = {
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "sos", [2] = "man_down", [3] = "geofence_enter", [4] = "geofence_leave", [5] = "recording_start", [6] = "recording_stop", [7] = "tamper", [8] = "low_battery", [9] = "live_view_start", [10] = "live_view_stop", [11] = "power_off", [12] = "storage_low" } },
        { name = "phase", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "raised", [1] = "updated", [2] = "cancelled", [3] = "cleared" } },
        { name = "ack_wanted", type = "u8", size = 1, low = 0, high = 1, unit = "" },
        { name = "cause", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "button", [1] = "motion", [2] = "dispatcher", [3] = "rule", [4] = "schedule", [5] = "fault" } },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "hacc_m", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "m" },
        { name = "fix_age_s", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "s" },
        { name = "ref", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "value", type = "i32", size = 4, low = -2147483647, high = 2147483647, unknown = -2147483648, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [6] = { name = "reject", direction = "both", fields = {
        { name = "counter", type = "u32", size = 4, low = 0, high = 268435455, unit = "" },
        { name = "message_type", type = "u8", size = 1, low = 0, high = 31, unit = "" },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "detail", type = "str", size = 1, low = 0, high = 40, unit = "" },
    } },
    [7] = { name = "ptt_burst", direction = "up", fields = {
        { name = "group", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "role", type = "u8", size = 1, low = 0, high = 1, unit = "", names = { [0] = "talked", [1] = "heard" } },
        { name = "outcome", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "granted", [1] = "queued", [2] = "denied", [3] = "failed", [4] = "abandoned", [5] = "revoked" } },
        { name = "start_ms", type = "u64", size = 8, unit = "ms" },
        { name = "duration_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "access_ms", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "ms" },
        { name = "packets", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "lost", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "jitter_ms", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "ms" },
        { name = "ssrc", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
    } },
    [8] = { name = "text", direction = "both", fields = {
        { name = "text_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "priority", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "routine", [1] = "notice", [2] = "alert", [3] = "emergency" } },
        { name = "ack", type = "u8", size = 1, low = 0, high = 5, unit = "", names = { [0] = "none", [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved" } },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "sender", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 240, unit = "" },
    } },
    [9] = { name = "text_state", direction = "both", fields = {
        { name = "text_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 1, high = 6, unit = "", names = { [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved", [6] = "declined" } },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
    } },
    [10] = { name = "duty", direction = "up", fields = {
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "check_in", [2] = "check_out", [3] = "post_arrive", [4] = "post_leave", [5] = "welfare_ok", [6] = "welfare_missed" } },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "post", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "wearer", type = "str", size = 1, low = 0, high = 32, unit = "" },
    } },
    [11] = { name = "patrol_summary", direction = "up", fields = {
        { name = "start_ms", type = "u64", size = 8, unit = "ms" },
        { name = "end_ms", type = "u64", size = 8, unit = "ms" },
        { name = "distance_m", type = "u32", size = 4, low = 0, high = 4294967295, unit = "m" },
        { name = "fixes", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "posts", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "events", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "bursts", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "clips", type = "u16", size = 2, low = 0, high = 65535, unit = "" },
        { name = "no_fix_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
        { name = "offline_s", type = "u32", size = 4, low = 0, high = 4294967295, unit = "s" },
    } },
    [12] = { name = "hazard", direction = "up", fields = {
        { name = "hazard_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "kind", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "other", [1] = "fire", [2] = "flood", [3] = "traffic", [4] = "stolen_vehicle", [5] = "fraud", [6] = "missing_person", [7] = "crowd", [8] = "infrastructure", [9] = "medical" } },
        { name = "severity", type = "u8", size = 1, low = 0, high = 3, unit = "", names = { [0] = "information", [1] = "minor", [2] = "serious", [3] = "life" } },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "lat_e7", type = "i32", size = 4, low = -900000000, high = 900000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "lon_e7", type = "i32", size = 4, low = -1800000000, high = 1800000000, unknown = -2147483648, unit = "1e-7 deg" },
        { name = "photo_clip", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "photo_sha256", type = "bytes", size = 1, low = 0, high = 32, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 200, unit = "" },
    } },
    [13] = { name = "ptt_status", direction = "up", fields = {
        { name = "room", type = "u8", size = 1, low = 0, high = 255, unit = "" },
        { name = "groups", type = "bytes", size = 1, low = 0, high = 250, unit = "" },
    } },
    [14] = { name = "firmware_request", direction = "up", fields = {
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "offset", type = "u32", size = 4, low = 0, high = 16777471, unit = "B" },
        { name = "max_bytes", type = "u16", size = 2, low = 1, high = 900, unit = "B" },
    } },
    [15] = { name = "firmware_block", direction = "down", fields = {
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "offset", type = "u32", size = 4, low = 0, high = 16777471, unit = "B" },
        { name = "data", type = "bytes", size = 2, low = 1, high = 900, unit = "" },
    } },
    [18] = { name = "time_sync", direction = "both", fields = {
        { name = "originate_ms", type = "u64", size = 8, unit = "ms" },
        { name = "receive_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "transmit_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
    } },
    [20] = { name = "event_state", direction = "down", fields = {
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "received", [2] = "read", [3] = "accepted", [4] = "arrived", [5] = "resolved", [6] = "false_alarm" } },
        { name = "time_ms", type = "u64", size = 8, unit = "ms" },
        { name = "eta_s", type = "u16", size = 2, low = 0, high = 65534, unknown = 65535, unit = "s" },
        { name = "who", type = "str", size = 1, low = 0, high = 40, unit = "" },
    } },
    [21] = { name = "ptt_group", direction = "down", fields = {
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
    [22] = { name = "clip_manifest", direction = "up", fields = {
        { name = "clip_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "trigger", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "button", [1] = "sos", [2] = "man_down", [3] = "dispatcher", [4] = "geofence", [5] = "photo" } },
        { name = "codec", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "mjpeg_avi", [2] = "h264_mp4", [3] = "jpeg", [4] = "pcma_wav", [5] = "opus_ogg" } },
        { name = "start_ms", type = "u64", size = 8, unit = "ms" },
        { name = "duration_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "pre_event_ms", type = "u32", size = 4, low = 0, high = 4294967295, unit = "ms" },
        { name = "segments", type = "u16", size = 2, low = 1, high = 65535, unit = "" },
        { name = "bytes", type = "u32", size = 4, low = 0, high = 4294967295, unit = "B" },
        { name = "event_id", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "previous_chain", type = "bytes", size = 1, low = 0, high = 32, unit = "" },
        { name = "chain", type = "bytes", size = 1, low = 0, high = 32, unit = "" },
        { name = "signer", type = "bytes", size = 1, low = 0, high = 33, unit = "" },
        { name = "signature", type = "bytes", size = 1, low = 0, high = 64, unit = "" },
    } },
    [23] = { name = "clip_state", direction = "both", fields = {
        { name = "clip_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "recording", [2] = "kept", [3] = "uploading", [4] = "uploaded", [5] = "verified", [6] = "released", [7] = "damaged", [8] = "locked" } },
        { name = "bytes_done", type = "u32", size = 4, low = 0, high = 4294967295, unit = "B" },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
    } },
    [24] = { name = "command", direction = "down", fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "action", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "start_recording", [2] = "stop_recording", [3] = "snapshot", [4] = "live_view_start", [5] = "live_view_stop", [6] = "call", [7] = "configure", [8] = "locate", [9] = "reboot", [10] = "stun", [11] = "revive", [12] = "rotate_key", [13] = "status", [14] = "preserve_clip" } },
        { name = "expires_ms", type = "u64", size = 8, unit = "ms" },
        { name = "operator", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "number", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "name", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "value", type = "str", size = 1, low = 0, high = 120, unit = "" },
    } },
    [25] = { name = "answer", direction = "up", fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "result", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "done", [1] = "started", [2] = "refused", [3] = "unsupported", [4] = "expired", [5] = "failed", [6] = "busy" } },
        { name = "time_ms", type = "u64", size = 8, unknown = 0, unit = "ms" },
        { name = "ref", type = "u32", size = 4, low = 0, high = 4294967294, unknown = 4294967295, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [26] = { name = "firmware", direction = "down", fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "action", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "install", [2] = "cancel" } },
        { name = "expires_ms", type = "u64", size = 8, unit = "ms" },
        { name = "operator", type = "str", size = 1, low = 0, high = 40, unit = "" },
        { name = "image", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "bytes", type = "u32", size = 4, low = 257, high = 16777472, unknown = 0, unit = "B" },
        { name = "rollback_floor", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "version", type = "str", size = 1, low = 0, high = 24, unit = "" },
    } },
    [27] = { name = "firmware_status", direction = "up", fields = {
        { name = "command_id", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "state", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "fetching", [2] = "deferred", [3] = "installed", [4] = "confirmed", [5] = "refused", [6] = "failed", [7] = "rolled_back", [8] = "cancelled" } },
        { name = "reason", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [0] = "none", [1] = "no_slots", [2] = "expired", [3] = "busy", [4] = "signature", [5] = "board", [6] = "architecture", [7] = "platform", [8] = "rollback", [9] = "base", [10] = "format", [11] = "damaged", [12] = "no_space", [13] = "storage", [14] = "sos", [15] = "voice", [16] = "recording", [17] = "battery", [18] = "replaced" } },
        { name = "content", type = "bytes", size = 1, low = 8, high = 8, unit = "" },
        { name = "rollback_floor", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "text", type = "str", size = 1, low = 0, high = 80, unit = "" },
    } },
    [28] = { name = "certify", direction = "both", fields = {
        { name = "operation", type = "u8", size = 1, low = 0, high = 255, unit = "", names = { [1] = "enter", [2] = "leave", [3] = "echo", [4] = "report_counters", [5] = "send_vector", [6] = "power_cut", [7] = "result" } },
        { name = "seconds", type = "u16", size = 2, low = 0, high = 65535, unit = "s" },
        { name = "frames_accepted", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "frames_refused", type = "u32", size = 4, low = 0, high = 4294967295, unit = "" },
        { name = "payload", type = "bytes", size = 1, low = 0, high = 200, unit = "" },
    } },
}

local COLUMNS = {
    { name = "time", unit = "ms", scale = 1, low = 0, high = 0, divisor = { 0, 0, 0 }, bits = { 32, 32, 32 }, k = -1, signed = true, optional = false, modulus = 0 },
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

-- --- bits ---------------------------------------------------------------------------------------------------------
-- Numbers are doubles, exact up to 2^53: sums and products are used instead of shifts.

local Bits = {}
Bits.__index = Bits

local function bits_of(range)
    return setmetatable({ bytes = range:bytes(), at = 0, size = range:len() * 8 }, Bits)
end

function Bits:get(n)
    if self.at + n > self.size then
        refuse("length", "the batch ends early")
    end
    local value = 0
    while n > 0 do
        local have = 8 - self.at % 8
        local take = n < have and n or have
        local byte = self.bytes:get_index(math.floor(self.at / 8))
        value = value * 2 ^ take + math.floor(byte / 2 ^ (have - take)) % 2 ^ take
        self.at = self.at + take
        n = n - take
    end
    return value
end

function Bits:eg(k)
    local n = 0
    while self:get(1) == 0 do
        n = n + 1
        if n + k > 36 then
            refuse("range", "a code of more than 36 bits")
        end
    end
    return 2 ^ (n + k) + self:get(n + k) - 2 ^ k
end

local function unzigzag(code)
    return code % 2 == 1 and -(code + 1) / 2 or code / 2
end

local function signed(value, n)
    return value >= 2 ^ (n - 1) and value - 2 ^ n or value
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
        codes[i] = q * 2 ^ k + (q < 12 and bits:get(k) or bits:eg(k + 3))
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

local function show_batch(range, tree)
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
    for i = 1, n do
        local row = tree:add(f_row, range, "row " .. i)
        local ms = columns[1][i]
        row:add(row_fields[1], range, NSTime.new(math.floor(ms / 1000), ms % 1000 * 1000000))
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

local function is_utf8(text)
    local i, n = 1, #text
    while i <= n do
        local c = text:byte(i)
        local more = c < 0x80 and 0 or c >= 0xC2 and c < 0xE0 and 1 or c >= 0xE0 and c < 0xF0 and 2 or c >= 0xF0 and c < 0xF5 and 3
        if not more or i + more > n then
            return false
        end
        for j = 1, more do
            local next_byte = text:byte(i + j)
            if next_byte < 0x80 or next_byte > 0xBF then
                return false
            end
        end
        i = i + 1 + more
    end
    return true
end

local function show_integer(f, range, tree)
    if f.type == "u64" then
        local value = range:uint64()
        local item = tree:add(f.proto, range, value)
        if f.unknown and value == UInt64(f.unknown) then
            item:append_text(" (not known)")
        end
        return
    end
    local value = f.type:sub(1, 1) == "i" and range:int() or range:uint()
    local item = tree:add(f.proto, range, value)
    if value == f.unknown then
        item:append_text(" (not known)")
    elseif value < f.low or value > f.high then
        refuse("range", f.name .. " " .. value)
    end
    for bit, name in ipairs(f.bits or {}) do
        if math.floor(value / 2 ^ (bit - 1)) % 2 == 1 then
            item:append_text(" " .. name)
        end
    end
end

local function show_fields(message, range, tree)
    local at, size = 0, range:len()
    for _, f in ipairs(message.fields) do
        local n = f.size
        if at + n > size then
            refuse("length", "the body ends before " .. f.name)
        end
        if f.type == "str" or f.type == "bytes" then
            n = range:range(at, f.size):uint()
            at = at + f.size
            if at + n > size then
                refuse("length", f.name)
            end
            if n < f.low or n > f.high or (f.type == "str" and n > 0 and not is_utf8(range:range(at, n):raw())) then
                refuse("range", f.name)
            end
            if n == 0 then
                tree:add(range:range(at - f.size, f.size), f.name .. ": (empty)")
            elseif f.type == "str" then
                tree:add_packet_field(f.proto, range:range(at, n), ENC_UTF_8)
            else
                tree:add(f.proto, range:range(at, n))
            end
        else
            show_integer(f, range:range(at, n), tree)
        end
        at = at + n
    end
    if at < size then
        tree:add(f_later, range:range(at))
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
