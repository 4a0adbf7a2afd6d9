/* The Patrolink codec. Generated from protocol/schema.toml by protocol/generate.py; do not edit. */

#include "patrolink.h"

/* Names are left out on devices to save space; vectors/check.c needs them. */
#ifdef PATROLINK_NAMES
#define NAMED(name) , name
#define PL_REASONS "length", "version", "type", "tag", "key", "replay", "range", "critical"
#else
#define NAMED(name)
#endif

enum { PL_U8, PL_I8, PL_U16, PL_I16, PL_U32, PL_I32, PL_U64, PL_I64, PL_STR, PL_BYTES };

typedef struct {
    uint64_t low, high, unknown; /* str and bytes: minimum and maximum length; signed kinds: sign-extended */
    uint8_t has_unknown;
} limit_rule;

typedef struct {
    uint16_t offset;
    uint8_t kind, size; /* str and bytes: size of the length */
    uint8_t limit;      /* index in limits, which fields share to save space */
#ifdef PATROLINK_NAMES
    const char *name;
#endif
} field_rule;

/* Two fields of a message: both known or both unknown; ordered: the first is at most the second. */
typedef struct {
    uint8_t type, ordered, first, second;
} pair_rule;

typedef struct {
    uint8_t type, count;
    const field_rule *fields;
#ifdef PATROLINK_NAMES
    const char *name;
#endif
} message_rule;

typedef struct {
    int32_t low, high, divisor[3]; /* by resolution 5, 6, 7 */
    uint8_t bits[3];
    int8_t k; /* order of the keyframe's Exp-Golomb code; -1: plain bits */
    bool is_signed, optional;
    int16_t modulus;
} column_rule;

static const limit_rule limits[] = {
    {0, UINT64_C(4294967295), 0, 0},
    {0, 255, 0, 0},
    {0, 65535, 0, 0},
    {1, 255, 0, 0},
    {0, 24, 0, 0},
    {0, 40, 0, 0},
    {8, 8, 0, 0},
    {0, 3, 0, 0},
    {0, 254, (uint64_t)(255), 1},
    {0, 100, (uint64_t)(255), 1},
    {0, 3, (uint64_t)(255), 1},
    {(uint64_t)((-127)), 0, (uint64_t)((-128)), 1},
    {(uint64_t)((-127)), 127, (uint64_t)((-128)), 1},
    {0, 65534, (uint64_t)(65535), 1},
    {0, 5, 0, 0},
    {0, 6, 0, 0},
    {1, UINT64_C(4294967295999), (uint64_t)(UINT64_C(0)), 1},
    {(uint64_t)((-900000000)), 900000000, (uint64_t)((-2147483647 - 1)), 1},
    {(uint64_t)((-1800000000)), 1800000000, (uint64_t)((-2147483647 - 1)), 1},
    {0, 32, 0, 0},
    {0, 1, 0, 0},
    {0, UINT64_C(4294967294), (uint64_t)(4294967295u), 1},
    {(uint64_t)((-2147483647)), 2147483647, (uint64_t)((-2147483647 - 1)), 1},
    {0, 80, 0, 0},
    {0, 268435455, 0, 0},
    {0, 31, 0, 0},
    {0, 240, 0, 0},
    {1, 6, 0, 0},
    {32, 32, (uint64_t)(0), 1},
    {0, 200, 0, 0},
    {0, 250, 0, 0},
    {0, 16777471, 0, 0},
    {1, 900, 0, 0},
    {0, UINT64_C(4294967295999), 0, 0},
    {2147483648, UINT64_C(4294967295), 0, 0},
    {0, 64, 0, 0},
    {1, 65535, 0, 0},
    {32, 32, 0, 0},
    {33, 33, (uint64_t)(0), 1},
    {64, 64, (uint64_t)(0), 1},
    {1, UINT64_C(4294967295999), 0, 0},
    {0, 120, 0, 0},
    {257, 16777472, (uint64_t)(0), 1},
};

static const field_rule hello_fields[] = {
    {offsetof(pl_message, as.hello.boot), PL_U32, 4, 0 NAMED("boot")},
    {offsetof(pl_message, as.hello.schema_hash), PL_U32, 4, 0 NAMED("schema_hash")},
    {offsetof(pl_message, as.hello.minor), PL_U8, 1, 1 NAMED("minor")},
    {offsetof(pl_message, as.hello.profiles), PL_U16, 2, 2 NAMED("profiles")},
    {offsetof(pl_message, as.hello.heap_kb), PL_U16, 2, 2 NAMED("heap_kb")},
    {offsetof(pl_message, as.hello.date_floor), PL_U16, 2, 2 NAMED("date_floor")},
    {offsetof(pl_message, as.hello.batch_fixes), PL_U8, 1, 3 NAMED("batch_fixes")},
    {offsetof(pl_message, as.hello.board), PL_STR, 1, 4 NAMED("board")},
    {offsetof(pl_message, as.hello.firmware), PL_STR, 1, 4 NAMED("firmware")},
    {offsetof(pl_message, as.hello.runtime), PL_STR, 1, 5 NAMED("runtime")},
    {offsetof(pl_message, as.hello.content), PL_BYTES, 1, 6 NAMED("content")},
    {offsetof(pl_message, as.hello.rollback_floor), PL_U32, 4, 0 NAMED("rollback_floor")},
    {offsetof(pl_message, as.hello.platform), PL_U16, 2, 2 NAMED("platform")},
};

static const field_rule device_status_fields[] = {
    {offsetof(pl_message, as.device_status.uptime_s), PL_U32, 4, 0 NAMED("uptime_s")},
    {offsetof(pl_message, as.device_status.gps_mode), PL_U8, 1, 7 NAMED("gps_mode")},
    {offsetof(pl_message, as.device_status.gps_sats), PL_U8, 1, 8 NAMED("gps_sats")},
    {offsetof(pl_message, as.device_status.battery_pct), PL_U8, 1, 9 NAMED("battery_pct")},
    {offsetof(pl_message, as.device_status.charge), PL_U8, 1, 10 NAMED("charge")},
    {offsetof(pl_message, as.device_status.signal_dbm), PL_I8, 1, 11 NAMED("signal_dbm")},
    {offsetof(pl_message, as.device_status.temperature_c), PL_I8, 1, 12 NAMED("temperature_c")},
    {offsetof(pl_message, as.device_status.storage_free_pct), PL_U8, 1, 9 NAMED("storage_free_pct")},
    {offsetof(pl_message, as.device_status.errors), PL_U16, 2, 2 NAMED("errors")},
    {offsetof(pl_message, as.device_status.heap_free_kb), PL_U16, 2, 13 NAMED("heap_free_kb")},
    {offsetof(pl_message, as.device_status.queue_frames), PL_U16, 2, 2 NAMED("queue_frames")},
    {offsetof(pl_message, as.device_status.dropped_frames), PL_U32, 4, 0 NAMED("dropped_frames")},
    {offsetof(pl_message, as.device_status.reconnects), PL_U16, 2, 2 NAMED("reconnects")},
    {offsetof(pl_message, as.device_status.link), PL_U8, 1, 14 NAMED("link")},
    {offsetof(pl_message, as.device_status.rung), PL_U8, 1, 15 NAMED("rung")},
    {offsetof(pl_message, as.device_status.nmea_sentences), PL_U32, 4, 0 NAMED("nmea_sentences")},
    {offsetof(pl_message, as.device_status.nmea_errors), PL_U32, 4, 0 NAMED("nmea_errors")},
    {offsetof(pl_message, as.device_status.fixes), PL_U32, 4, 0 NAMED("fixes")},
};

static const field_rule no_fix_fields[] = {
    {offsetof(pl_message, as.no_fix.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.no_fix.since_s), PL_U32, 4, 0 NAMED("since_s")},
    {offsetof(pl_message, as.no_fix.reason), PL_U8, 1, 1 NAMED("reason")},
    {offsetof(pl_message, as.no_fix.sats_in_view), PL_U8, 1, 8 NAMED("sats_in_view")},
    {offsetof(pl_message, as.no_fix.lat_e7), PL_I32, 4, 17 NAMED("lat_e7")},
    {offsetof(pl_message, as.no_fix.lon_e7), PL_I32, 4, 18 NAMED("lon_e7")},
    {offsetof(pl_message, as.no_fix.cell), PL_STR, 1, 19 NAMED("cell")},
};

static const field_rule event_fields[] = {
    {offsetof(pl_message, as.event.event_id), PL_U32, 4, 0 NAMED("event_id")},
    {offsetof(pl_message, as.event.kind), PL_U8, 1, 1 NAMED("kind")},
    {offsetof(pl_message, as.event.phase), PL_U8, 1, 7 NAMED("phase")},
    {offsetof(pl_message, as.event.ack_wanted), PL_U8, 1, 20 NAMED("ack_wanted")},
    {offsetof(pl_message, as.event.cause), PL_U8, 1, 1 NAMED("cause")},
    {offsetof(pl_message, as.event.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.event.lat_e7), PL_I32, 4, 17 NAMED("lat_e7")},
    {offsetof(pl_message, as.event.lon_e7), PL_I32, 4, 18 NAMED("lon_e7")},
    {offsetof(pl_message, as.event.hacc_m), PL_U16, 2, 13 NAMED("hacc_m")},
    {offsetof(pl_message, as.event.fix_age_s), PL_U16, 2, 13 NAMED("fix_age_s")},
    {offsetof(pl_message, as.event.ref), PL_U32, 4, 21 NAMED("ref")},
    {offsetof(pl_message, as.event.value), PL_I32, 4, 22 NAMED("value")},
    {offsetof(pl_message, as.event.text), PL_STR, 1, 23 NAMED("text")},
};

static const field_rule reject_fields[] = {
    {offsetof(pl_message, as.reject.refused_counter), PL_U32, 4, 24 NAMED("refused_counter")},
    {offsetof(pl_message, as.reject.message_type), PL_U8, 1, 25 NAMED("message_type")},
    {offsetof(pl_message, as.reject.reason), PL_U8, 1, 1 NAMED("reason")},
    {offsetof(pl_message, as.reject.detail), PL_STR, 1, 5 NAMED("detail")},
};

static const field_rule ptt_burst_fields[] = {
    {offsetof(pl_message, as.ptt_burst.group), PL_U32, 4, 0 NAMED("group")},
    {offsetof(pl_message, as.ptt_burst.role), PL_U8, 1, 20 NAMED("role")},
    {offsetof(pl_message, as.ptt_burst.outcome), PL_U8, 1, 1 NAMED("outcome")},
    {offsetof(pl_message, as.ptt_burst.start_ms), PL_U64, 8, 16 NAMED("start_ms")},
    {offsetof(pl_message, as.ptt_burst.duration_ms), PL_U32, 4, 0 NAMED("duration_ms")},
    {offsetof(pl_message, as.ptt_burst.access_ms), PL_U16, 2, 13 NAMED("access_ms")},
    {offsetof(pl_message, as.ptt_burst.packets), PL_U16, 2, 2 NAMED("packets")},
    {offsetof(pl_message, as.ptt_burst.lost), PL_U16, 2, 2 NAMED("lost")},
    {offsetof(pl_message, as.ptt_burst.jitter_ms), PL_U16, 2, 13 NAMED("jitter_ms")},
    {offsetof(pl_message, as.ptt_burst.ssrc), PL_U32, 4, 0 NAMED("ssrc")},
};

static const field_rule text_fields[] = {
    {offsetof(pl_message, as.text.text_id), PL_U32, 4, 0 NAMED("text_id")},
    {offsetof(pl_message, as.text.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.text.priority), PL_U8, 1, 7 NAMED("priority")},
    {offsetof(pl_message, as.text.ack), PL_U8, 1, 14 NAMED("ack")},
    {offsetof(pl_message, as.text.lat_e7), PL_I32, 4, 17 NAMED("lat_e7")},
    {offsetof(pl_message, as.text.lon_e7), PL_I32, 4, 18 NAMED("lon_e7")},
    {offsetof(pl_message, as.text.sender), PL_STR, 1, 5 NAMED("sender")},
    {offsetof(pl_message, as.text.text), PL_STR, 1, 26 NAMED("text")},
};

static const field_rule text_state_fields[] = {
    {offsetof(pl_message, as.text_state.text_id), PL_U32, 4, 0 NAMED("text_id")},
    {offsetof(pl_message, as.text_state.state), PL_U8, 1, 27 NAMED("state")},
    {offsetof(pl_message, as.text_state.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
};

static const field_rule duty_fields[] = {
    {offsetof(pl_message, as.duty.kind), PL_U8, 1, 1 NAMED("kind")},
    {offsetof(pl_message, as.duty.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.duty.post), PL_U32, 4, 21 NAMED("post")},
    {offsetof(pl_message, as.duty.lat_e7), PL_I32, 4, 17 NAMED("lat_e7")},
    {offsetof(pl_message, as.duty.lon_e7), PL_I32, 4, 18 NAMED("lon_e7")},
    {offsetof(pl_message, as.duty.wearer), PL_STR, 1, 19 NAMED("wearer")},
};

static const field_rule patrol_summary_fields[] = {
    {offsetof(pl_message, as.patrol_summary.start_ms), PL_U64, 8, 16 NAMED("start_ms")},
    {offsetof(pl_message, as.patrol_summary.end_ms), PL_U64, 8, 16 NAMED("end_ms")},
    {offsetof(pl_message, as.patrol_summary.distance_m), PL_U32, 4, 0 NAMED("distance_m")},
    {offsetof(pl_message, as.patrol_summary.fixes), PL_U32, 4, 0 NAMED("fixes")},
    {offsetof(pl_message, as.patrol_summary.posts), PL_U16, 2, 2 NAMED("posts")},
    {offsetof(pl_message, as.patrol_summary.events), PL_U16, 2, 2 NAMED("events")},
    {offsetof(pl_message, as.patrol_summary.bursts), PL_U16, 2, 2 NAMED("bursts")},
    {offsetof(pl_message, as.patrol_summary.clips), PL_U16, 2, 2 NAMED("clips")},
    {offsetof(pl_message, as.patrol_summary.no_fix_s), PL_U32, 4, 0 NAMED("no_fix_s")},
    {offsetof(pl_message, as.patrol_summary.offline_s), PL_U32, 4, 0 NAMED("offline_s")},
};

static const field_rule hazard_fields[] = {
    {offsetof(pl_message, as.hazard.hazard_id), PL_U32, 4, 0 NAMED("hazard_id")},
    {offsetof(pl_message, as.hazard.kind), PL_U8, 1, 1 NAMED("kind")},
    {offsetof(pl_message, as.hazard.severity), PL_U8, 1, 7 NAMED("severity")},
    {offsetof(pl_message, as.hazard.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.hazard.lat_e7), PL_I32, 4, 17 NAMED("lat_e7")},
    {offsetof(pl_message, as.hazard.lon_e7), PL_I32, 4, 18 NAMED("lon_e7")},
    {offsetof(pl_message, as.hazard.photo_clip), PL_U32, 4, 21 NAMED("photo_clip")},
    {offsetof(pl_message, as.hazard.photo_sha256), PL_BYTES, 1, 28 NAMED("photo_sha256")},
    {offsetof(pl_message, as.hazard.text), PL_STR, 1, 29 NAMED("text")},
};

static const field_rule ptt_status_fields[] = {
    {offsetof(pl_message, as.ptt_status.room), PL_U8, 1, 1 NAMED("room")},
    {offsetof(pl_message, as.ptt_status.groups), PL_BYTES, 1, 30 NAMED("groups")},
};

static const field_rule firmware_request_fields[] = {
    {offsetof(pl_message, as.firmware_request.image), PL_BYTES, 1, 6 NAMED("image")},
    {offsetof(pl_message, as.firmware_request.offset), PL_U32, 4, 31 NAMED("offset")},
    {offsetof(pl_message, as.firmware_request.max_bytes), PL_U16, 2, 32 NAMED("max_bytes")},
};

static const field_rule firmware_block_fields[] = {
    {offsetof(pl_message, as.firmware_block.image), PL_BYTES, 1, 6 NAMED("image")},
    {offsetof(pl_message, as.firmware_block.offset), PL_U32, 4, 31 NAMED("offset")},
    {offsetof(pl_message, as.firmware_block.data), PL_BYTES, 2, 32 NAMED("data")},
};

static const field_rule time_sync_fields[] = {
    {offsetof(pl_message, as.time_sync.originate_ms), PL_U64, 8, 33 NAMED("originate_ms")},
    {offsetof(pl_message, as.time_sync.receive_ms), PL_U64, 8, 16 NAMED("receive_ms")},
    {offsetof(pl_message, as.time_sync.transmit_ms), PL_U64, 8, 16 NAMED("transmit_ms")},
};

static const field_rule event_state_fields[] = {
    {offsetof(pl_message, as.event_state.event_id), PL_U32, 4, 0 NAMED("event_id")},
    {offsetof(pl_message, as.event_state.state), PL_U8, 1, 1 NAMED("state")},
    {offsetof(pl_message, as.event_state.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.event_state.eta_s), PL_U16, 2, 13 NAMED("eta_s")},
    {offsetof(pl_message, as.event_state.who), PL_STR, 1, 5 NAMED("who")},
};

static const field_rule ptt_group_fields[] = {
    {offsetof(pl_message, as.ptt_group.group), PL_U32, 4, 0 NAMED("group")},
    {offsetof(pl_message, as.ptt_group.kind), PL_U8, 1, 1 NAMED("kind")},
    {offsetof(pl_message, as.ptt_group.rights), PL_U8, 1, 1 NAMED("rights")},
    {offsetof(pl_message, as.ptt_group.priority), PL_U8, 1, 1 NAMED("priority")},
    {offsetof(pl_message, as.ptt_group.rank), PL_U8, 1, 1 NAMED("rank")},
    {offsetof(pl_message, as.ptt_group.codec), PL_U8, 1, 20 NAMED("codec")},
    {offsetof(pl_message, as.ptt_group.ssrc), PL_U32, 4, 34 NAMED("ssrc")},
    {offsetof(pl_message, as.ptt_group.hub_ssrc), PL_U32, 4, 0 NAMED("hub_ssrc")},
    {offsetof(pl_message, as.ptt_group.key), PL_U16, 2, 2 NAMED("key")},
    {offsetof(pl_message, as.ptt_group.wrapped), PL_BYTES, 1, 5 NAMED("wrapped")},
    {offsetof(pl_message, as.ptt_group.floor_port), PL_U16, 2, 2 NAMED("floor_port")},
    {offsetof(pl_message, as.ptt_group.media_port), PL_U16, 2, 2 NAMED("media_port")},
    {offsetof(pl_message, as.ptt_group.host), PL_STR, 1, 35 NAMED("host")},
    {offsetof(pl_message, as.ptt_group.name), PL_STR, 1, 5 NAMED("name")},
};

static const field_rule clip_manifest_fields[] = {
    {offsetof(pl_message, as.clip_manifest.clip_id), PL_U32, 4, 0 NAMED("clip_id")},
    {offsetof(pl_message, as.clip_manifest.trigger), PL_U8, 1, 1 NAMED("trigger")},
    {offsetof(pl_message, as.clip_manifest.codec), PL_U8, 1, 1 NAMED("codec")},
    {offsetof(pl_message, as.clip_manifest.start_ms), PL_U64, 8, 16 NAMED("start_ms")},
    {offsetof(pl_message, as.clip_manifest.duration_ms), PL_U32, 4, 0 NAMED("duration_ms")},
    {offsetof(pl_message, as.clip_manifest.pre_event_ms), PL_U32, 4, 0 NAMED("pre_event_ms")},
    {offsetof(pl_message, as.clip_manifest.segments), PL_U16, 2, 36 NAMED("segments")},
    {offsetof(pl_message, as.clip_manifest.bytes), PL_U32, 4, 0 NAMED("bytes")},
    {offsetof(pl_message, as.clip_manifest.event_id), PL_U32, 4, 21 NAMED("event_id")},
    {offsetof(pl_message, as.clip_manifest.previous_chain), PL_BYTES, 1, 28 NAMED("previous_chain")},
    {offsetof(pl_message, as.clip_manifest.chain), PL_BYTES, 1, 37 NAMED("chain")},
    {offsetof(pl_message, as.clip_manifest.signer), PL_BYTES, 1, 38 NAMED("signer")},
    {offsetof(pl_message, as.clip_manifest.signature), PL_BYTES, 1, 39 NAMED("signature")},
};

static const field_rule clip_state_fields[] = {
    {offsetof(pl_message, as.clip_state.clip_id), PL_U32, 4, 0 NAMED("clip_id")},
    {offsetof(pl_message, as.clip_state.state), PL_U8, 1, 1 NAMED("state")},
    {offsetof(pl_message, as.clip_state.bytes_done), PL_U32, 4, 0 NAMED("bytes_done")},
    {offsetof(pl_message, as.clip_state.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
};

static const field_rule command_fields[] = {
    {offsetof(pl_message, as.command.command_id), PL_U32, 4, 0 NAMED("command_id")},
    {offsetof(pl_message, as.command.action), PL_U8, 1, 1 NAMED("action")},
    {offsetof(pl_message, as.command.expires_ms), PL_U64, 8, 40 NAMED("expires_ms")},
    {offsetof(pl_message, as.command.operator_), PL_STR, 1, 5 NAMED("operator")},
    {offsetof(pl_message, as.command.number), PL_U32, 4, 21 NAMED("number")},
    {offsetof(pl_message, as.command.name), PL_STR, 1, 5 NAMED("name")},
    {offsetof(pl_message, as.command.value), PL_STR, 1, 41 NAMED("value")},
};

static const field_rule answer_fields[] = {
    {offsetof(pl_message, as.answer.command_id), PL_U32, 4, 0 NAMED("command_id")},
    {offsetof(pl_message, as.answer.result), PL_U8, 1, 1 NAMED("result")},
    {offsetof(pl_message, as.answer.time_ms), PL_U64, 8, 16 NAMED("time_ms")},
    {offsetof(pl_message, as.answer.ref), PL_U32, 4, 21 NAMED("ref")},
    {offsetof(pl_message, as.answer.text), PL_STR, 1, 23 NAMED("text")},
};

static const field_rule firmware_fields[] = {
    {offsetof(pl_message, as.firmware.command_id), PL_U32, 4, 0 NAMED("command_id")},
    {offsetof(pl_message, as.firmware.action), PL_U8, 1, 1 NAMED("action")},
    {offsetof(pl_message, as.firmware.expires_ms), PL_U64, 8, 40 NAMED("expires_ms")},
    {offsetof(pl_message, as.firmware.operator_), PL_STR, 1, 5 NAMED("operator")},
    {offsetof(pl_message, as.firmware.image), PL_BYTES, 1, 6 NAMED("image")},
    {offsetof(pl_message, as.firmware.bytes), PL_U32, 4, 42 NAMED("bytes")},
    {offsetof(pl_message, as.firmware.rollback_floor), PL_U32, 4, 0 NAMED("rollback_floor")},
    {offsetof(pl_message, as.firmware.version), PL_STR, 1, 4 NAMED("version")},
};

static const field_rule firmware_status_fields[] = {
    {offsetof(pl_message, as.firmware_status.command_id), PL_U32, 4, 0 NAMED("command_id")},
    {offsetof(pl_message, as.firmware_status.state), PL_U8, 1, 1 NAMED("state")},
    {offsetof(pl_message, as.firmware_status.reason), PL_U8, 1, 1 NAMED("reason")},
    {offsetof(pl_message, as.firmware_status.content), PL_BYTES, 1, 6 NAMED("content")},
    {offsetof(pl_message, as.firmware_status.rollback_floor), PL_U32, 4, 0 NAMED("rollback_floor")},
    {offsetof(pl_message, as.firmware_status.text), PL_STR, 1, 23 NAMED("text")},
};

static const field_rule certify_fields[] = {
    {offsetof(pl_message, as.certify.operation), PL_U8, 1, 1 NAMED("operation")},
    {offsetof(pl_message, as.certify.seconds), PL_U16, 2, 2 NAMED("seconds")},
    {offsetof(pl_message, as.certify.frames_accepted), PL_U32, 4, 0 NAMED("frames_accepted")},
    {offsetof(pl_message, as.certify.frames_refused), PL_U32, 4, 0 NAMED("frames_refused")},
    {offsetof(pl_message, as.certify.payload), PL_BYTES, 1, 29 NAMED("payload")},
};

static const pair_rule pairs[] = {
    {PL_NO_FIX, 0, 4, 5},
    {PL_EVENT, 0, 6, 7},
    {PL_PTT_BURST, 1, 7, 6},
    {PL_TEXT, 0, 4, 5},
    {PL_DUTY, 0, 3, 4},
    {PL_PATROL_SUMMARY, 1, 0, 1},
    {PL_HAZARD, 0, 4, 5},
    {PL_TIME_SYNC, 0, 1, 2},
    {PL_CLIP_MANIFEST, 1, 5, 4},
    {PL_CLIP_MANIFEST, 0, 11, 12},
};

static const message_rule messages[] = {
    {PL_HELLO, 13, hello_fields NAMED("hello")},
    {PL_DEVICE_STATUS, 18, device_status_fields NAMED("device_status")},
    {PL_NO_FIX, 7, no_fix_fields NAMED("no_fix")},
    {PL_EVENT, 13, event_fields NAMED("event")},
    {PL_REJECT, 4, reject_fields NAMED("reject")},
    {PL_PTT_BURST, 10, ptt_burst_fields NAMED("ptt_burst")},
    {PL_TEXT, 8, text_fields NAMED("text")},
    {PL_TEXT_STATE, 3, text_state_fields NAMED("text_state")},
    {PL_DUTY, 6, duty_fields NAMED("duty")},
    {PL_PATROL_SUMMARY, 10, patrol_summary_fields NAMED("patrol_summary")},
    {PL_HAZARD, 9, hazard_fields NAMED("hazard")},
    {PL_PTT_STATUS, 2, ptt_status_fields NAMED("ptt_status")},
    {PL_FIRMWARE_REQUEST, 3, firmware_request_fields NAMED("firmware_request")},
    {PL_FIRMWARE_BLOCK, 3, firmware_block_fields NAMED("firmware_block")},
    {PL_TIME_SYNC, 3, time_sync_fields NAMED("time_sync")},
    {PL_EVENT_STATE, 5, event_state_fields NAMED("event_state")},
    {PL_PTT_GROUP, 14, ptt_group_fields NAMED("ptt_group")},
    {PL_CLIP_MANIFEST, 13, clip_manifest_fields NAMED("clip_manifest")},
    {PL_CLIP_STATE, 4, clip_state_fields NAMED("clip_state")},
    {PL_COMMAND, 7, command_fields NAMED("command")},
    {PL_ANSWER, 5, answer_fields NAMED("answer")},
    {PL_FIRMWARE, 8, firmware_fields NAMED("firmware")},
    {PL_FIRMWARE_STATUS, 6, firmware_status_fields NAMED("firmware_status")},
    {PL_CERTIFY, 5, certify_fields NAMED("certify")},
};

/* Type, minimum and maximum length of each extension of this protocol. */
static const struct {
    uint8_t type, low, high;
} extension_rules[] = {
    {1, 1, 32}, /* trace */
};

static const column_rule columns[PL_COLUMNS - 1] = {
    {-900000000, 900000000, {100, 10, 1}, {25, 28, 31}, -1, true, false, 0}, /* lat */
    {-1800000000, 1800000000, {100, 10, 1}, {26, 29, 32}, -1, true, false, 0}, /* lon */
    {1, 31, {1, 1, 1}, {5, 5, 5}, 4, false, false, 0}, /* state */
    {-1000000, 20000000, {1000, 500, 100}, {18, 18, 18}, 9, true, true, 0}, /* alt */
    {0, 1000000, {100, 100, 100}, {14, 14, 14}, 5, false, true, 0}, /* speed */
    {0, 35999, {200, 200, 200}, {8, 8, 8}, -1, false, true, 181}, /* course */
    {0, 1000000, {1000, 1000, 1000}, {11, 11, 11}, 3, false, true, 0}, /* hacc */
    {0, 99, {1, 1, 1}, {7, 7, 7}, 4, false, true, 0}, /* sats */
    {0, 100, {1, 1, 1}, {7, 7, 7}, -1, false, true, 0}, /* battery */
};

/* --- SHA-256 (FIPS 180-4) and HMAC (RFC 2104) --------------------------------------------------------------- */

typedef struct {
    uint32_t h[8];
    uint8_t block[64];
    uint32_t w[16], v[8]; /* of one block; here, so that one pl_wipe overwrites all that depends on a key */
    uint32_t len;
} sha256;

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

void pl_wipe(void *data, size_t len)
{
    volatile uint8_t *at = (volatile uint8_t *)data; /* volatile: compilers may not remove the writes */
    while (len--)
        *at++ = 0;
}

static void sha_block(sha256 *s)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t *v = s->v, *w = s->w;
    volatile uint32_t *h = s->h; /* volatile: compilers may not keep a copy, which nothing would wipe */
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
               (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
    for (int i = 0; i < 8; i++)
        v[i] = h[i];
    for (int i = 0; i < 64; i++) {
        uint32_t early = w[(i + 1) & 15], late = w[(i + 14) & 15], word = w[i & 15];
        uint32_t a = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + word;
        uint32_t b = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        /* Word i is needed no more: word i + 16 takes its place. */
        w[i & 15] = word + (ror(early, 7) ^ ror(early, 18) ^ early >> 3) + w[(i + 9) & 15] +
                    (ror(late, 17) ^ ror(late, 19) ^ late >> 10);
        v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + a, v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = a + b;
    }
    for (int i = 0; i < 8; i++)
        h[i] = h[i] + v[i];
}

static void sha_start(sha256 *s)
{
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (int i = 0; i < 8; i++)
        s->h[i] = h[i];
    s->len = 0;
}

static void sha_add(sha256 *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        s->block[s->len++ & 63] = data[i];
        if ((s->len & 63) == 0)
            sha_block(s);
    }
}

static void sha_end(sha256 *s, uint8_t digest[32])
{
    static const uint8_t pad[64] = {0x80};
    uint64_t bits = (uint64_t)s->len * 8;
    uint8_t tail[8];
    sha_add(s, pad, 64 - ((s->len + 8) & 63));
    for (int i = 0; i < 8; i++)
        tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha_add(s, tail, 8);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Set the state after one block: the key, padded (RFC 2104). */
static void sha_padded_key(sha256 *s, const uint8_t key[32], uint8_t pad)
{
    sha_start(s);
    for (int i = 0; i < 64; i++) {
        uint8_t byte = (uint8_t)((i < 32 ? key[i] : 0) ^ pad);
        sha_add(s, &byte, 1);
    }
}

static void set_key(pl_channel *ch, const uint8_t key[32])
{
    sha256 s;
    sha_padded_key(&s, key, 0x36);
    for (int i = 0; i < 8; i++)
        ch->inner[i] = s.h[i];
    sha_padded_key(&s, key, 0x5c);
    for (int i = 0; i < 8; i++)
        ch->outer[i] = s.h[i];
    pl_wipe(&s, sizeof s);
}

static void sha_continue(sha256 *s, const uint32_t h[8])
{
    for (int i = 0; i < 8; i++)
        s->h[i] = h[i];
    s->len = 64;
}

void pl_mac(const pl_channel *ch, const uint8_t *data, size_t len, uint8_t digest[32])
{
    sha256 s;
    sha_continue(&s, ch->inner);
    sha_add(&s, ch->context, ch->context_len);
    sha_add(&s, data, len);
    sha_end(&s, digest);
    sha_continue(&s, ch->outer);
    sha_add(&s, digest, 32);
    sha_end(&s, digest);
    pl_wipe(&s, sizeof s);
}
/* --- frames ------------------------------------------------------------------------------------------------- */


/* HMAC-SHA256(device key, label | epoch); `ch` has the device key and no context. */
static void derive(const pl_channel *ch, const char *label, uint32_t epoch, uint8_t derived[32])
{
    uint8_t text[32];
    size_t n = 0;
    for (; label[n]; n++)
        text[n] = (uint8_t)label[n];
    for (int i = 0; i < 4; i++)
        text[n++] = (uint8_t)(epoch >> (24 - 8 * i));
    pl_mac(ch, text, n, derived);
}

int pl_channel_init(pl_channel *ch, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction, uint32_t epoch,
                    pl_aes128 *aes)
{
    uint8_t derived[32];
    if (id_len < 1 || id_len > 32 || direction < 0 || direction > 1)
        return PL_ERR_RANGE;
    ch->context_len = 0;
    set_key(ch, key);
    derive(ch, direction ? "patrolink-down-cipher" : "patrolink-up-cipher", epoch, derived);
    for (size_t i = 0; i < sizeof ch->cipher_key; i++)
        ch->cipher_key[i] = derived[i];
    derive(ch, direction ? "patrolink-down" : "patrolink-up", epoch, derived);
    set_key(ch, derived);
    pl_wipe(derived, sizeof derived);
    ch->aes = aes;
    ch->direction = (uint8_t)direction;
    ch->phase = (uint8_t)(epoch & 1);
    ch->context[0] = (uint8_t)id_len;
    for (size_t i = 0; i < id_len; i++)
        ch->context[1 + i] = id[i];
    ch->context[1 + id_len] = (uint8_t)direction;
    ch->context_len = (uint8_t)(id_len + 2);
    return PL_OK;
}

/* Encrypt or decrypt data[PL_HEADER] to data[end - 1]: AES-128 in counter mode (NIST SP 800-38A, 6.5). */
static void apply_cipher(const pl_channel *ch, uint8_t *data, size_t end)
{
    uint8_t block[16] = {0}, stream[16];
    for (size_t i = 0; i < PL_HEADER; i++)
        block[i] = data[i];
    for (size_t at = PL_HEADER; at < end; block[15]++) { /* a frame has at most 64 blocks */
        ch->aes(ch->cipher_key, block, stream);
        for (size_t i = 0; i < sizeof stream && at < end; i++)
            data[at++] ^= stream[i];
    }
    pl_wipe(stream, sizeof stream);
}

static size_t tag_bytes(uint8_t type) { return type >= PL_LONG_TAG_FROM ? PL_LONG_TAG_BYTES : PL_TAG_BYTES; }

/* Steps 1 to 6 of SPEC.md, "Frame": everything before the counter. */
static int authenticate(const pl_channel *ch, const uint8_t *data, size_t len, pl_frame *out)
{
    uint8_t digest[32], diff = 0;
    out->genuine = false;
    if (len < PL_HEADER + PL_TAG_BYTES || len > PL_MAX_FRAME)
        return PL_REJECT_LENGTH;
    if (data[0] >> 5 != PL_VERSION)
        return PL_REJECT_VERSION;
    uint8_t type = data[0] & 31;
    size_t n = tag_bytes(type);
    if (len < PL_HEADER + n)
        return PL_REJECT_LENGTH;
    size_t end = len - n;
    pl_mac(ch, data, end, digest);
    for (size_t i = 0; i < n; i++)
        diff |= digest[i] ^ data[end + i];
    if (diff)
        return PL_REJECT_TAG;
    uint8_t flags = data[1] >> 4;
    if (flags & ~(PL_FLAG_TAIL | PL_FLAG_PHASE | PL_FLAG_ENCRYPTED) || !(flags & PL_FLAG_PHASE) != !ch->phase)
        return PL_REJECT_CRITICAL;
    out->type = type;
    out->counter = (uint32_t)(data[1] & 15) << 24 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 8 | data[4];
    out->genuine = true;
    return PL_OK;
}

/* Steps 8 and 9: tail and type of an authentic frame, decrypted in place. */
static int read_parts(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out)
{
    size_t end = len - tag_bytes(out->type);
    uint8_t flags = data[1] >> 4;
    if (flags & PL_FLAG_ENCRYPTED) {
        if (!ch->aes)
            return PL_ERR_CIPHER;
        apply_cipher(ch, data, end);
    }
    out->tail = data + end;
    out->tail_len = 0;
    if (flags & PL_FLAG_TAIL) {
        bool critical = false, legal_types = true;
        uint8_t types[16] = {0}; /* bit of each type that was present */
        if (end == PL_HEADER || (size_t)data[end - 1] > end - 1 - PL_HEADER)
            return PL_REJECT_LENGTH;
        out->tail_len = data[end - 1];
        out->tail = data + end - 1 - out->tail_len;
        for (size_t at = 0; at < out->tail_len; at += 2u + out->tail[at + 1]) {
            if (at + 2 > out->tail_len || at + 2u + out->tail[at + 1] > out->tail_len)
                return PL_REJECT_LENGTH;
            uint8_t type = out->tail[at] & 127, length = out->tail[at + 1], bit = (uint8_t)(1 << (type & 7));
            critical |= out->tail[at] >> 7;
            legal_types &= type && !(types[type >> 3] & bit);
            types[type >> 3] |= bit;
            for (size_t i = 0; i < sizeof extension_rules / sizeof *extension_rules; i++)
                legal_types &= type != extension_rules[i].type || (length >= extension_rules[i].low && length <= extension_rules[i].high);
        }
        if (!legal_types)
            return PL_REJECT_RANGE;
        if (critical)
            return PL_REJECT_CRITICAL;
        end -= 1 + out->tail_len;
    }
    if (!((ch->direction ? PL_DOWN : PL_UP) >> out->type & 1))
        return PL_REJECT_TYPE;
    out->body = data + PL_HEADER;
    out->body_len = end - PL_HEADER;
    return PL_OK;
}

int pl_open(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out)
{
    int result = authenticate(ch, data, len, out);
    return result == PL_OK ? read_parts(ch, data, len, out) : result;
}

/* Complete a frame with these flags; the phase is added. */
static int seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, unsigned flags,
                size_t *len)
{
    uint8_t digest[32];
    if (type > 31 || counter > PL_COUNTER_MAX || end < PL_HEADER)
        return PL_ERR_RANGE;
    size_t n = tag_bytes(type);
    if (end + n > cap || end + n > PL_MAX_FRAME)
        return PL_ERR_SPACE;
    if (flags & PL_FLAG_ENCRYPTED && !ch->aes)
        return PL_ERR_CIPHER;
    flags |= ch->phase ? PL_FLAG_PHASE : 0u;
    buf[0] = (uint8_t)(PL_VERSION << 5 | type);
    buf[1] = (uint8_t)(flags << 4 | counter >> 24);
    buf[2] = (uint8_t)(counter >> 16);
    buf[3] = (uint8_t)(counter >> 8);
    buf[4] = (uint8_t)counter;
    if (flags & PL_FLAG_ENCRYPTED)
        apply_cipher(ch, buf, end);
    pl_mac(ch, buf, end, digest);
    for (size_t i = 0; i < n; i++)
        buf[end + i] = digest[i];
    *len = end + n;
    return PL_OK;
}

int pl_seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, bool tail,
            size_t *len)
{
    unsigned encrypted = type < 32 && PL_CONFIDENTIAL >> type & 1 ? PL_FLAG_ENCRYPTED : 0u;
    return seal(ch, buf, cap, type, counter, end, encrypted | (tail ? PL_FLAG_TAIL : 0u), len);
}

static void forget(pl_receiver *r)
{
    r->highest = -1;
    for (size_t i = 0; r->seen && i < (PL_REPLAY_WINDOW + 7) / 8; i++)
        r->seen[i] = 0;
}

int pl_receiver_init(pl_receiver *r, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction, uint32_t epoch,
                     uint8_t *seen, pl_aes128 *aes)
{
    if ((direction == 0 && !seen) || pl_channel_init(&r->channel, key, id, id_len, direction, epoch, aes) != PL_OK)
        return PL_ERR_RANGE;
    for (size_t i = 0; i < 32; i++) {
        r->key[i] = key[i];
        r->id[i] = i < id_len ? id[i] : 0;
    }
    r->id_len = (uint8_t)id_len;
    r->epoch = epoch;
    r->seen = direction ? NULL : seen;
    forget(r);
    return PL_OK;
}

static int take(pl_receiver *r, uint32_t counter)
{
    uint8_t bit = (uint8_t)(1 << (counter & 7));
    if (!r->seen) {
        if ((int64_t)counter <= r->highest)
            return PL_REJECT_REPLAY;
        r->highest = counter;
        return PL_OK;
    }
    uint8_t *slot = &r->seen[counter % PL_REPLAY_WINDOW >> 3];
    if ((int64_t)counter > r->highest) {
        /* Slots between the old highest counter and this one are counters not seen: at most a full window. */
        int64_t from = r->highest + 1;
        if (from < (int64_t)counter - PL_REPLAY_WINDOW + 1)
            from = (int64_t)counter - PL_REPLAY_WINDOW + 1;
        for (; from < (int64_t)counter; from++)
            if (from >= 0)
                r->seen[from % PL_REPLAY_WINDOW >> 3] &= (uint8_t)~(1 << (from & 7));
        r->highest = counter;
    } else if ((int64_t)counter <= r->highest - PL_REPLAY_WINDOW) {
        return PL_REJECT_REPLAY;
    } else if (*slot & bit) {
        return PL_REPEATED;
    }
    *slot |= bit;
    return PL_OK;
}

int pl_receive(pl_receiver *r, uint8_t *data, size_t len, pl_frame *out)
{
    int result;
    if (len < PL_HEADER || !(data[1] >> 4 & PL_FLAG_PHASE) == !r->channel.phase || r->epoch == UINT32_MAX) {
        result = authenticate(&r->channel, data, len, out);
    } else {
        pl_channel next;
        pl_channel_init(&next, r->key, r->id, r->id_len, r->channel.direction, r->epoch + 1, r->channel.aes);
        result = authenticate(&next, data, len, out);
        if (result == PL_OK) {
            r->channel = next;
            r->epoch++;
            forget(r);
        }
        pl_wipe(&next, sizeof next);
    }
    if (result == PL_OK)
        result = take(r, out->counter);
    return result == PL_OK ? read_parts(&r->channel, data, len, out) : result;
}

bool pl_may_reject(pl_reject_gate *gate, const pl_frame *frame, int reason, int64_t now_ms)
{
    bool is_replay = reason == PL_REJECT_REPLAY;
    if (!frame->genuine || frame->type == PL_REJECT || reason <= 0 || now_ms < gate->next_ms ||
        (is_replay && now_ms < gate->next_replay_ms))
        return false;
    gate->next_ms = now_ms + PL_TIMER_REJECT_INTERVAL_MS;
    if (is_replay)
        gate->next_replay_ms = now_ms + PL_TIMER_REPLAY_REJECT_INTERVAL_MS;
    return true;
}

/* --- scalar messages ---------------------------------------------------------------------------------------- */

static bool is_utf8(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c = s[i++];
        int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
        if (more < 0 || (size_t)more > len - i)
            return false;
        if (more)
            c &= 0x3fu >> more;
        for (int j = 0; j < more; j++) {
            if (s[i] >> 6 != 2)
                return false;
            c = c << 6 | (s[i++] & 0x3f);
        }
        if ((more == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (more == 3 && (c < 0x10000 || c > 0x10ffff)))
            return false;
    }
    return true;
}

/* An integer member of a message structure, of any width. */
static uint64_t load(const uint8_t *at, uint8_t kind)
{
    switch (kind) {
    case PL_U8: return *at;
    case PL_I8: return (uint64_t)(int64_t)*(const int8_t *)at;
    case PL_U16: return *(const uint16_t *)(const void *)at;
    case PL_I16: return (uint64_t)(int64_t)*(const int16_t *)(const void *)at;
    case PL_U32: return *(const uint32_t *)(const void *)at;
    case PL_I32: return (uint64_t)(int64_t)*(const int32_t *)(const void *)at;
    default: return *(const uint64_t *)(const void *)at;
    }
}

static void store(uint8_t *at, uint8_t kind, uint64_t v)
{
    switch (kind) {
    case PL_U8: *at = (uint8_t)v; break;
    case PL_I8: *(int8_t *)at = (int8_t)v; break;
    case PL_U16: *(uint16_t *)(void *)at = (uint16_t)v; break;
    case PL_I16: *(int16_t *)(void *)at = (int16_t)v; break;
    case PL_U32: *(uint32_t *)(void *)at = (uint32_t)v; break;
    case PL_I32: *(int32_t *)(void *)at = (int32_t)v; break;
    default: *(uint64_t *)(void *)at = v; break;
    }
}

/* The length of a str or bytes member; its data follow. */
static size_t load_length(const uint8_t *at, const field_rule *f)
{
    return (size_t)load(at, f->size == 1 ? PL_U8 : PL_U16);
}

/* Whether a value, or a length of str or bytes, is legal. */
static bool legal(const field_rule *f, uint64_t v)
{
    const limit_rule *limit = &limits[f->limit];
    if (limit->has_unknown && v == limit->unknown)
        return true;
    if (f->kind == PL_I8 || f->kind == PL_I16 || f->kind == PL_I32)
        return (int64_t)v >= (int64_t)limit->low && (int64_t)v <= (int64_t)limit->high;
    return v >= limit->low && v <= limit->high;
}

static const message_rule *rule_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        if (messages[i].type == type)
            return &messages[i];
    return NULL;
}

static uint64_t load_field(const pl_message *message, const field_rule *f, bool *known)
{
    const uint8_t *member = (const uint8_t *)message + f->offset;
    bool text = f->kind == PL_STR || f->kind == PL_BYTES;
    uint64_t v = text ? load_length(member, f) : load(member, f->kind);
    *known = !limits[f->limit].has_unknown || v != limits[f->limit].unknown;
    return v;
}

static bool pairs_hold(const pl_message *message, const message_rule *rule)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bool first, second;
        if (pairs[i].type != rule->type)
            continue;
        uint64_t a = load_field(message, rule->fields + pairs[i].first, &first);
        uint64_t b = load_field(message, rule->fields + pairs[i].second, &second);
        if (pairs[i].ordered ? first && second && a > b : first != second)
            return false;
    }
    return true;
}

int pl_decode(uint8_t type, const uint8_t *body, size_t len, pl_message *out)
{
    const message_rule *rule = rule_of(type);
    size_t at = 0;
    if (!rule)
        return PL_REJECT_TYPE;
    out->type = type;
    for (const field_rule *f = rule->fields; f < rule->fields + rule->count; f++) {
        uint8_t *member = (uint8_t *)out + f->offset;
        size_t n = f->size;
        if (len - at < n)
            return PL_REJECT_LENGTH;
        if (f->kind == PL_STR || f->kind == PL_BYTES) {
            n = body[at++];
            if (f->size == 2)
                n = n << 8 | body[at++];
            if (len - at < n)
                return PL_REJECT_LENGTH;
            if (!legal(f, n) || (f->kind == PL_STR && !is_utf8(body + at, n)))
                return PL_REJECT_RANGE;
            store(member, f->size == 1 ? PL_U8 : PL_U16, n);
            for (size_t i = 0; i < n; i++)
                member[f->size + i] = body[at + i];
        } else {
            uint64_t v = f->kind & 1 && body[at] & 0x80 ? ~(uint64_t)0 : 0;
            for (size_t i = 0; i < n; i++)
                v = v << 8 | body[at + i];
            if (!legal(f, v))
                return PL_REJECT_RANGE;
            store(member, f->kind, v);
        }
        at += n;
    }
    return pairs_hold(out, rule) ? PL_OK : PL_REJECT_RANGE;
}

int pl_encode(const pl_message *in, uint8_t *buf, size_t cap, size_t *len)
{
    const message_rule *rule = rule_of(in->type);
    size_t at = 0;
    if (!rule || !pairs_hold(in, rule))
        return PL_ERR_RANGE;
    for (const field_rule *f = rule->fields; f < rule->fields + rule->count; f++) {
        const uint8_t *member = (const uint8_t *)in + f->offset;
        bool text = f->kind == PL_STR || f->kind == PL_BYTES;
        size_t n = text ? load_length(member, f) : 0;
        uint64_t number = text ? n : load(member, f->kind);
        if (!legal(f, number) || (f->kind == PL_STR && !is_utf8(member + 1, n)))
            return PL_ERR_RANGE;
        if (cap - at < f->size + n)
            return PL_ERR_SPACE;
        for (size_t i = 0; i < f->size; i++)
            buf[at++] = (uint8_t)(number >> 8 * (f->size - 1 - i));
        for (size_t i = 0; i < n; i++)
            buf[at++] = member[f->size + i];
    }
    *len = at;
    return PL_OK;
}

/* --- position batches --------------------------------------------------------------------------------------- */

enum { CONSTANT, FIXED, RICE, RAW };
enum { RUNS = 13, ESCAPE = 12, LONGEST = 36 }; /* LONGEST: bits after the first one bit of a code */
static const int32_t ticks_ms[4] = {1000, 100, 10, 1};

typedef struct {
    const uint8_t *data;
    size_t left; /* bits */
    size_t at;
    int error; /* the first one; reads return 0 from then on */
} bit_reader;

/* The next 57 bits or more, most significant first; zeros after the end. */
static uint64_t peek(const bit_reader *b)
{
    const uint8_t *p = b->data + (b->at >> 3);
    size_t bytes = (b->left + (b->at & 7) + 7) >> 3;
    uint64_t v = 0;
    if (bytes >= 8) /* compilers make this one load */
        v = (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
            (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | p[7];
    else
        for (size_t i = 0; i < bytes; i++)
            v |= (uint64_t)p[i] << (56 - 8 * i);
    return v << (b->at & 7);
}

static uint64_t get(bit_reader *b, unsigned n)
{
    if (b->error || n > b->left) {
        b->error = b->error ? b->error : PL_REJECT_LENGTH;
        return 0;
    }
    uint64_t v = n ? peek(b) >> (64 - n) : 0;
    b->left -= n;
    b->at += n;
    return v;
}

static unsigned leading_zeros(uint64_t v)
{
#if defined(__GNUC__) && UINTPTR_MAX > UINT32_MAX /* elsewhere it would call a library */
    return v ? (unsigned)__builtin_clzll(v) : 64;
#else
    unsigned n = 0;
    for (; n < 64 && !(v >> 63); v <<= 1)
        n++;
    return n;
#endif
}

/* Read the zeros before the next one, and the one; or `most` zeros. Returns the number of zeros. */
static unsigned get_zeros(bit_reader *b, unsigned most)
{
    unsigned n = leading_zeros(peek(b));
    n = n < most ? n : most;
    get(b, n < most ? n + 1 : n);
    return n;
}

static uint64_t get_eg(bit_reader *b, unsigned k)
{
    unsigned n = get_zeros(b, LONGEST - k + 1) + k;
    if (!b->error && n > LONGEST)
        b->error = PL_REJECT_RANGE;
    return b->error ? 0 : ((uint64_t)1 << n) + get(b, n) - ((uint64_t)1 << k);
}

static uint64_t get_rice(bit_reader *b, unsigned k)
{
    uint64_t v = peek(b);
    unsigned n = leading_zeros(v);
    if (n < ESCAPE && n + 1 + k <= b->left && !b->error) { /* the usual code; its one becomes bit k of v */
        v = v << n >> (63 - k);
        b->left -= n + 1 + k;
        b->at += n + 1 + k;
        return v + ((uint64_t)n << k) - ((uint64_t)1 << k);
    }
    n = get_zeros(b, ESCAPE);
    return n < ESCAPE ? get(b, k) : ((uint64_t)n << k) + get_eg(b, k + 3);
}

static int64_t unzigzag(uint64_t c) { return (int64_t)(c >> 1 ^ (0 - (c & 1))); }

static uint64_t zigzag(int64_t v) { return v >= 0 ? (uint64_t)v << 1 : ~((uint64_t)v << 1); }

static int64_t sign_extend(uint64_t v, unsigned bits)
{
    return (int64_t)v - (v >> (bits - 1) ? (int64_t)1 << bits : 0);
}

/* Conversion of a stored value to the value of a row; the time column needs only start and unit. */
typedef struct {
    const column_rule *rule; /* NULL: time */
    int64_t divisor, offset, lowest;
    int64_t start, unit; /* time */
    size_t index;
    bool bad;
} sink;

static void put_value(sink *s, pl_row *row, int64_t v)
{
    const column_rule *c = s->rule;
    if (!c) {
        row->time_ms = s->start + v * s->unit;
        s->bad |= row->time_ms < 0 || row->time_ms > PL_TIME_MAX_MS;
        return;
    }
    if (v < s->lowest || (c->modulus && v >= c->modulus) || (v + s->offset) * s->divisor >= (int64_t)c->high + s->divisor)
        s->bad = true;
    else
        row->value[s->index] = c->optional && v == 0 ? PL_UNKNOWN : (int32_t)((v + s->offset) * s->divisor);
}

/* A value summed from differences; in a cyclic column it may exceed the modulus. */
static void put_sum(sink *s, pl_row *row, int64_t v)
{
    if (s->rule && s->rule->modulus && (v < 0 || v >= s->rule->modulus)) {
        v %= s->rule->modulus;
        v += v < 0 ? s->rule->modulus : 0;
    }
    put_value(s, row, v);
}

static void get_column(bit_reader *b, sink *s, pl_row *rows, size_t n, int64_t first, unsigned bits, bool is_signed)
{
    size_t i = 1;
    int64_t delta = 0;
    uint64_t run = 0;
    bool in_run = false;
    put_value(s, rows, first);
    if (n == 1)
        return;
    bool second = get(b, 1);
    unsigned kind = (unsigned)get(b, 2), k = 0;
    if (kind == RAW && second)
        b->error = b->error ? b->error : PL_REJECT_RANGE;
    if (kind != RAW && second) {
        delta = unzigzag(get_eg(b, 0));
        first += delta;
        put_sum(s, rows + i++, first);
    }
    if (kind == FIXED) {
        k = (unsigned)get(b, 6);
        if (!b->error && (k < 1 || k > 34))
            b->error = PL_REJECT_RANGE;
    } else if (kind == RICE) {
        k = (unsigned)get(b, 4);
    }
    for (; i < n && !b->error; i++) {
        uint64_t code = 0;
        if (kind == RAW) {
            uint64_t v = get(b, bits);
            put_value(s, rows + i, is_signed ? sign_extend(v, bits) : (int64_t)v);
            continue;
        }
        if (kind == FIXED) {
            code = get(b, k);
        } else if (kind == RICE && k < RUNS) {
            code = get_rice(b, k);
        } else if (kind == RICE) {
            if (!in_run) {
                run = get_eg(b, k - RUNS + 2);
                if (!b->error && run > n - i)
                    b->error = PL_REJECT_RANGE;
                in_run = true;
            }
            if (run) {
                run--;
            } else {
                code = get_eg(b, 0) + 1;
                in_run = false;
            }
        }
        delta = (second ? delta : 0) + unzigzag(code);
        first += delta;
        put_sum(s, rows + i, first);
    }
}

int pl_track_decode(const uint8_t *body, size_t len, pl_row *rows, size_t max_rows, size_t *count, int *resolution)
{
    bit_reader b = {body, len * 8, 0, 0};
    uint64_t rows_minus_one = get_eg(&b, 0);
    if (b.error || rows_minus_one >= PL_MAX_BATCH)
        return b.error ? b.error : PL_REJECT_RANGE;
    size_t n = (size_t)rows_minus_one + 1;
    unsigned r = (unsigned)get(&b, 2), tick = (unsigned)get(&b, 2);
    if (b.error || r > 2)
        return b.error ? b.error : PL_REJECT_RANGE;
    unsigned present = get(&b, 1) ? (1u << PL_OPTIONAL) - 1 : (unsigned)get(&b, PL_OPTIONAL);
    sink s = {NULL, 1, 0, 0, (int64_t)get(&b, 32) * 1000, ticks_ms[tick], 0, false};
    if (tick) {
        unsigned ms = (unsigned)get(&b, 10);
        if (!b.error && ms > 999)
            return PL_REJECT_RANGE;
        s.start += ms;
    }
    if (b.error)
        return b.error;
    if (n > max_rows)
        return PL_ERR_SPACE;
    get_column(&b, &s, rows, n, 0, 32, true);
    if (!b.error && s.bad)
        return PL_REJECT_RANGE;
    for (size_t i = 0; i < PL_COLUMNS - 1 && !b.error; i++) {
        const column_rule *c = &columns[i];
        if (c->optional) {
            bool here = present & 1;
            present >>= 1;
            if (!here) {
                for (size_t j = 0; j < n; j++)
                    rows[j].value[i] = PL_UNKNOWN;
                continue;
            }
        }
        int64_t least = c->low / c->divisor[r]; /* limits are multiples of the divisors */
        int64_t first = (int64_t)(c->k < 0 ? get(&b, c->bits[r]) : get_eg(&b, (unsigned)c->k));
        if (c->is_signed && !c->optional)
            first = sign_extend((uint64_t)first, c->bits[r]);
        else if (c->is_signed && first)
            first = unzigzag((uint64_t)first - 1) + 1 - least;
        s.rule = c;
        s.index = i;
        s.divisor = c->divisor[r];
        s.lowest = c->optional ? 0 : least;
        s.offset = c->optional ? (c->is_signed ? least : 0) - 1 : 0;
        s.bad = false;
        get_column(&b, &s, rows, n, first, c->bits[r], c->is_signed && !c->optional);
        if (!b.error && s.bad)
            return PL_REJECT_RANGE;
    }
    if (b.error)
        return b.error;
    if (b.left > 7 || get(&b, (unsigned)b.left))
        return PL_REJECT_LENGTH;
    for (size_t j = 0; j < n; j++)
        if (!(rows[j].value[PL_STATE] & 3))
            return PL_REJECT_RANGE;
    *count = n;
    *resolution = (int)r + 5;
    return PL_OK;
}

typedef struct {
    uint8_t *buf;
    size_t cap, at; /* bits; beyond the capacity nothing is written */
} bit_writer;

static void put(bit_writer *b, uint64_t v, unsigned n)
{
    while (n--) {
        if (b->at < b->cap) {
            uint8_t mask = (uint8_t)(0x80 >> (b->at & 7));
            if ((b->at & 7) == 0)
                b->buf[b->at >> 3] = 0;
            if (v >> n & 1)
                b->buf[b->at >> 3] |= mask;
        }
        b->at++;
    }
}

static unsigned width(uint64_t v)
{
    unsigned n = 0;
    for (; v; v >>= 1)
        n++;
    return n;
}

static void put_eg(bit_writer *b, uint64_t code, unsigned k)
{
    code += (uint64_t)1 << k;
    put(b, 0, width(code) - k - 1);
    put(b, code, width(code));
}

static int32_t fold(int32_t v, int32_t modulus)
{
    if (!modulus)
        return v;
    v = (v + modulus / 2) % modulus;
    return v + (v < 0 ? modulus : 0) - modulus / 2;
}

/* bits << 8 | kind << 6 | parameter of the best coding. The cost of Rice is estimated from the sum of the codes; the
 * low bits of each code count as half of their maximum. */
static uint64_t cheapest(const int32_t *steps, size_t start, size_t end, bool rice)
{
    uint64_t wide = 0, total = 0, n = end - start, other = 0;
    for (size_t i = start; i < end; i++) {
        wide |= zigzag(steps[i]);
        total += zigzag(steps[i]);
        other += steps[i] != 0;
    }
    if (!wide)
        return 0;
    uint64_t best = (6 + n * width(wide)) << 8 | FIXED << 6 | width(wide), other_way;
    if (!rice)
        return best;
    for (unsigned k = 0; k < 13; k++) {
        uint64_t low = n * (((uint64_t)1 << k) - 1), cost = 4 + n * (k + 1) + (2 * total > low ? (2 * total - low) >> (k + 1) : 0);
        other_way = cost << 8 | RICE << 6 | k;
        best = other_way < best ? other_way : best;
    }
    if (3 * other <= n) {
        unsigned k = 2;
        while (k < 4 && n / (other + 1) >> (k + 1))
            k++;
        other_way = (4 + (other + 1) * (k + 1) + 2 * other * width(total / (2 * other) | 1)) << 8 | RICE << 6 | (RUNS + k - 2);
        best = other_way < best ? other_way : best;
    }
    return best;
}

static void put_steps(bit_writer *b, const int32_t *steps, size_t i, size_t n, unsigned mode)
{
    unsigned k = mode & 63;
    uint64_t run = 0;
    if (mode >> 6 == CONSTANT)
        return;
    put(b, k, mode >> 6 == FIXED ? 6 : 4);
    for (; i < n; i++) {
        uint64_t code = zigzag(steps[i]);
        if (mode >> 6 == FIXED) {
            put(b, code, k);
        } else if (k < RUNS) {
            bool escaped = code >> k >= ESCAPE;
            put(b, 0, escaped ? ESCAPE : (unsigned)(code >> k));
            if (escaped)
                put_eg(b, code - ((uint64_t)ESCAPE << k), k + 3);
            else
                put(b, (uint64_t)1 << k | (code & (((uint64_t)1 << k) - 1)), k + 1);
        } else if (code) {
            put_eg(b, run, k - RUNS + 2);
            put_eg(b, code - 1, 0);
            run = 0;
        } else {
            run++;
        }
    }
    if (run)
        put_eg(b, run, k - RUNS + 2);
}

/* Differences that 32-bit devices do not encode; such a column is written raw. */
#define TAME ((int64_t)1 << 29)

/* Replace v[from] to v[n - 1] by their differences, or differences by their sums. */
static void difference(int32_t *v, size_t from, size_t n, int32_t modulus)
{
    for (size_t i = n; i-- > from;)
        v[i] = fold(v[i] - v[i - 1], modulus);
}

static void sum(int32_t *v, size_t from, size_t n, int32_t modulus)
{
    for (size_t i = from; i < n; i++)
        v[i] = fold(v[i] + v[i - 1], modulus);
}

static void put_raw(bit_writer *b, const int32_t *v, size_t n, unsigned bits, int32_t modulus)
{
    put(b, RAW, 3);
    for (size_t i = 1; i < n; i++)
        put(b, (uint64_t)(int64_t)(v[i] < 0 ? v[i] + modulus : v[i]), bits);
}

/* Write rows 1 to n - 1 of a column. `v` is overwritten. */
static void put_column(bit_writer *b, int32_t *v, size_t n, unsigned bits, int32_t modulus, bool rice)
{
    bool wild = false;
    if (n == 1)
        return;
    for (size_t i = 1; i < n; i++) {
        int64_t step = (int64_t)v[i] - v[i - 1];
        wild |= step >= TAME || step <= -TAME;
    }
    if (wild) {
        put_raw(b, v, n, bits, 0);
        return;
    }
    difference(v, 1, n, modulus);
    uint64_t first = cheapest(v, 1, n, rice), lead = zigzag(v[1]), raw = bits * (n - 1);
    difference(v, 2, n, modulus);
    uint64_t second = cheapest(v, 2, n, rice), cost = (second >> 8) + 2 * width(lead + 1) - 1;
    if (raw <= cost && raw <= first >> 8) {
        sum(v, 2, n, modulus);
        sum(v, 1, n, modulus);
        put_raw(b, v, n, bits, modulus);
    } else if (cost < first >> 8) {
        put(b, 4 | (second & 255) >> 6, 3);
        put_eg(b, lead, 0);
        put_steps(b, v, 2, n, second & 255);
    } else {
        sum(v, 2, n, modulus);
        put(b, (first & 255) >> 6, 3);
        put_steps(b, v, 1, n, first & 255);
    }
}

/* Compute the stored value of a column of a row; false if it cannot be stored. */
static bool stored(const column_rule *c, unsigned r, int32_t value, int32_t *out)
{
    int32_t v = value, d = c->divisor[r];
    if (v < c->low || v > c->high) {
        *out = 0;
        return c->optional;
    }
    v = v >= 0 ? (v + d / 2) / d : -((d / 2 - v) / d);
    if (c->modulus && v == c->modulus - 1)
        v = 0;
    *out = c->optional ? v + 1 - (c->is_signed ? c->low / d : 0) : v;
    return true;
}

int pl_track_encode(const pl_row *rows, size_t n, int resolution, bool rice, unsigned omit, uint8_t *buf, size_t cap,
                    size_t *len)
{
    int32_t v[PL_MAX_BATCH];
    bit_writer b = {buf, cap * 8, 0};
    unsigned tick = 0, present = 0, r = (unsigned)resolution - 5, bit = 1;
    if (n < 1 || n > PL_MAX_BATCH || resolution < 5 || resolution > 7)
        return PL_ERR_RANGE;
    int64_t start = rows[0].time_ms;
    tick = start % 1000 != 0;
    for (size_t j = 0; j < n; j++) {
        int64_t time = rows[j].time_ms, since;
        if (time < 0 || time / 1000 > (int64_t)UINT32_MAX || !(rows[j].value[PL_STATE] & 3))
            return PL_ERR_RANGE;
        since = time - start;
        if (since >= TAME || since <= -TAME)
            return PL_ERR_RANGE;
        v[j] = (int32_t)since;
        while (v[j] % ticks_ms[tick])
            tick++;
    }
    for (size_t i = 0; i < PL_COLUMNS - 1; i++) {
        if (!columns[i].optional)
            continue;
        for (size_t j = 0; j < n && !(omit & bit); j++) {
            int32_t value;
            if (stored(&columns[i], r, rows[j].value[i], &value) && value)
                present |= bit;
        }
        bit <<= 1;
    }
    put_eg(&b, n - 1, 0);
    put(&b, r << 2 | tick, 4);
    put(&b, present == bit - 1 ? 1 : present, present == bit - 1 ? 1 : 1 + PL_OPTIONAL);
    put(&b, (uint64_t)(start / 1000), 32);
    if (tick)
        put(&b, (uint64_t)(start % 1000), 10);
    for (size_t j = 0; j < n; j++)
        v[j] /= ticks_ms[tick];
    put_column(&b, v, n, 32, 0, rice);
    for (size_t i = 0; i < PL_COLUMNS - 1; i++) {
        const column_rule *c = &columns[i];
        bool here = !c->optional || present & 1;
        present >>= c->optional;
        if (!here)
            continue;
        for (size_t j = 0; j < n; j++)
            if (!stored(c, r, rows[j].value[i], &v[j]))
                return PL_ERR_RANGE;
        if (c->k < 0)
            put(&b, (uint64_t)v[0], c->bits[r]);
        else if (v[0] && c->is_signed)
            put_eg(&b, zigzag(v[0] - 1 + c->low / c->divisor[r]) + 1, (unsigned)c->k);
        else
            put_eg(&b, (uint64_t)v[0], (unsigned)c->k);
        put_column(&b, v, n, c->bits[r], c->modulus, rice);
    }
    if (b.at > b.cap)
        return PL_ERR_SPACE;
    *len = (b.at + 7) / 8;
    return PL_OK;
}
/* --- serial lines ------------------------------------------------------------------------------------------- */

enum { CRC_BYTES = 2, BLOCK_MAX = 0xff };

/* CRC-16/CCITT-FALSE of one more byte. */
static uint16_t crc_add(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc ^ byte << 8);
    for (int i = 0; i < 8; i++)
        crc = (uint16_t)(crc << 1 ^ (crc >> 15 ? 0x1021 : 0));
    return crc;
}

int pl_packet(const uint8_t *frame, size_t len, uint8_t *buf, size_t cap, size_t *packet_len)
{
    size_t block = 0, at = 1; /* places of the block and of the next byte */
    uint16_t crc = 0xffff;
    if (len > PL_MAX_FRAME)
        return PL_ERR_RANGE;
    if (cap < len + CRC_BYTES + (len + CRC_BYTES) / (BLOCK_MAX - 1) + 2)
        return PL_ERR_SPACE;
    for (size_t i = 0; i < len + CRC_BYTES; i++) {
        uint8_t byte = (uint8_t)(i < len ? frame[i] : i == len ? crc >> 8 : crc & 0xff);
        if (i < len)
            crc = crc_add(crc, byte);
        if (at - block == BLOCK_MAX) {
            buf[block] = BLOCK_MAX;
            block = at++;
        }
        if (byte == 0) { /* COBS: the first byte of a block is the distance to the next zero */
            buf[block] = (uint8_t)(at - block);
            block = at++;
        } else {
            buf[at++] = byte;
        }
    }
    buf[block] = (uint8_t)(at - block);
    buf[at++] = 0;
    *packet_len = at;
    return PL_OK;
}

int pl_unpack(pl_unpacker *u, uint8_t byte)
{
    if (byte == 0) {
        uint16_t crc = 0xffff;
        bool is_empty = !u->started, is_whole = !u->bad && u->left == 0 && u->len > CRC_BYTES;
        for (size_t i = 0; is_whole && i < u->len; i++)
            crc = crc_add(crc, u->data[i]);
        size_t len = is_whole ? u->len - CRC_BYTES : 0;
        u->len = 0;
        u->left = 0;
        u->started = u->zero = u->bad = false;
        return is_empty ? 0 : is_whole && crc == 0 ? (int)len : PL_ERR_RANGE;
    }
    bool is_code = u->left == 0, has_byte = !is_code || (u->started && u->zero);
    u->started = true;
    if (has_byte && u->len == sizeof u->data)
        u->bad = true;
    else if (has_byte)
        u->data[u->len++] = is_code ? 0 : byte;
    if (is_code)
        u->zero = byte != BLOCK_MAX;
    u->left = (uint8_t)(is_code ? byte - 1 : u->left - 1);
    return 0;
}

