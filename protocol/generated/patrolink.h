/* The Patrolink protocol, see SPEC.md. Generated from protocol/schema.toml by protocol/generate.py; do not edit. */

#ifndef PATROLINK_H
#define PATROLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_VERSION 1
#define PL_MINOR 0
#define PL_HEADER 5
#define PL_TAG_BYTES 8
#define PL_LONG_TAG_BYTES 16
#define PL_LONG_TAG_FROM 20
#define PL_COUNTER_MAX 0xFFFFFFFu
#define PL_FLAG_TAIL 8
#define PL_FLAG_PHASE 4
#define PL_FLAG_ENCRYPTED 2
#define PL_MAX_FRAME 1024
#define PL_MAX_BATCH 255
#define PL_REPLAY_WINDOW 65536
#define PL_TIME_MAX_MS INT64_C(4294967295999)
#define PL_SCHEMA_HASH 0x21A2612Au
#define PL_TIMER_EVENT_REPEAT_MS 10000
#define PL_TIMER_EVENT_REPEAT_MAX_MS 600000
#define PL_TIMER_EVENT_OPEN_REPEAT_MS 60000
#define PL_TIMER_ANSWER_MS 10000
#define PL_TIMER_COMMAND_EXPIRY_MS 30000
#define PL_TIMER_FIRMWARE_EXPIRY_MS 600000
#define PL_TIMER_KEEPALIVE_MS 60000
#define PL_TIMER_REJECT_INTERVAL_MS 10000
#define PL_TIMER_REPLAY_REJECT_INTERVAL_MS 60000
#define PL_TIMER_DEVICE_CLEAN_SESSION 1
#define PL_TIMER_HUB_CLEAN_SESSION 0
#define PL_TIMER_RETAIN 0
/* Bit t is set if type t is allowed up, is allowed down, is encrypted by its sender. */
#define PL_UP 0x1AC47FFEu
#define PL_DOWN 0x15B48340u
#define PL_CONFIDENTIAL 0x03F03FB4u

/* Message types. */
enum {
    PL_HELLO = 1,
    PL_POSITION_BATCH = 2,
    PL_DEVICE_STATUS = 3,
    PL_NO_FIX = 4,
    PL_EVENT = 5,
    PL_REJECT = 6,
    PL_PTT_BURST = 7,
    PL_TEXT = 8,
    PL_TEXT_STATE = 9,
    PL_DUTY = 10,
    PL_PATROL_SUMMARY = 11,
    PL_HAZARD = 12,
    PL_PTT_STATUS = 13,
    PL_FIRMWARE_REQUEST = 14,
    PL_FIRMWARE_BLOCK = 15,
    PL_TIME_SYNC = 18,
    PL_EVENT_STATE = 20,
    PL_PTT_GROUP = 21,
    PL_CLIP_MANIFEST = 22,
    PL_CLIP_STATE = 23,
    PL_COMMAND = 24,
    PL_ANSWER = 25,
    PL_FIRMWARE = 26,
    PL_FIRMWARE_STATUS = 27,
    PL_CERTIFY = 28,
};

/* Reasons to refuse a frame. */
enum {
    PL_REJECT_LENGTH = 1, /* length does not match the contents, or exceeds the limit */
    PL_REJECT_VERSION = 2, /* major version not supported by the receiver */
    PL_REJECT_TYPE = 3, /* unknown message type, or a type not allowed in this direction */
    PL_REJECT_TAG = 4, /* authentication tag does not match */
    PL_REJECT_KEY = 5, /* no key known for this device */
    PL_REJECT_REPLAY = 6, /* counter already accepted, or too old */
    PL_REJECT_RANGE = 7, /* field outside its range, or a code that no encoder produces */
    PL_REJECT_CRITICAL = 8, /* reserved flag set, wrong phase, contents that cannot be decrypted, or a critical extension that the receiver does not act on */
};

/* Values of a position row, with their units. */
enum pl_column {
    PL_LAT, /* 1e-7 deg: WGS 84 latitude */
    PL_LON, /* 1e-7 deg: WGS 84 longitude */
    PL_STATE, /* bits: bits 0-1 mode (1 none, 2 2D, 3 3D; 0 is refused), bit 2 date suspect, bit 3 estimated, bit 4 differential; in mode 1 the position is not valid and repeats the last one */
    PL_ALT, /* mm: altitude above mean sea level; valid in mode 3 only */
    PL_SPEED, /* mm/s: speed over ground */
    PL_COURSE, /* 1e-2 deg: course over ground from true north; 0 to 179 steps of 2 degrees (step 180 is 0) */
    PL_HACC, /* mm: horizontal accuracy estimate, 95 % */
    PL_SATS, /* 1: satellites used */
    PL_BATTERY, /* %: battery charge */
    PL_COLUMNS /* the columns above and the time */ = 10
};
#define PL_OPTIONAL 6

/* First frame after a boot: identity, versions and capabilities of the device. */
typedef struct {
    uint32_t boot;
    uint32_t schema_hash;
    uint8_t minor;
    uint16_t profiles;
    uint16_t heap_kb; /* KiB */
    uint16_t date_floor; /* d */
    uint8_t batch_fixes;
    struct { uint8_t len, data[24]; } board;
    struct { uint8_t len, data[24]; } firmware;
    struct { uint8_t len, data[40]; } runtime;
    struct { uint8_t len, data[8]; } content;
    uint32_t rollback_floor;
    uint16_t platform;
} pl_hello;
enum { PL_HELLO_PROFILES_RICE = 1, PL_HELLO_PROFILES_PTT = 2, PL_HELLO_PROFILES_VIDEO = 4, PL_HELLO_PROFILES_LIVE_VIEW = 8, PL_HELLO_PROFILES_FIRMWARE_UPDATE = 16, PL_HELLO_PROFILES_HAZARD_PHOTO = 32, PL_HELLO_PROFILES_LONG_BATCH = 64 };

/* Health of the device; sent at boot, periodically, and when the GPS mode changes. */
typedef struct {
    uint32_t uptime_s; /* s */
    uint8_t gps_mode;
    uint8_t gps_sats;
    uint8_t battery_pct; /* % */
    uint8_t charge;
    int8_t signal_dbm; /* dBm */
    int8_t temperature_c; /* degC */
    uint8_t storage_free_pct; /* % */
    uint16_t errors;
    uint16_t heap_free_kb; /* KiB */
    uint16_t queue_frames;
    uint32_t dropped_frames;
    uint16_t reconnects;
    uint8_t link;
    uint8_t rung;
    uint32_t nmea_sentences;
    uint32_t nmea_errors;
    uint32_t fixes;
} pl_device_status;
enum { PL_DEVICE_STATUS_GPS_MODE_SILENT = 0, PL_DEVICE_STATUS_GPS_MODE_NO_FIX = 1, PL_DEVICE_STATUS_GPS_MODE_FIX_2D = 2, PL_DEVICE_STATUS_GPS_MODE_FIX_3D = 3 };
#define PL_DEVICE_STATUS_GPS_SATS_UNKNOWN 255
#define PL_DEVICE_STATUS_BATTERY_PCT_UNKNOWN 255
#define PL_DEVICE_STATUS_CHARGE_UNKNOWN 255
enum { PL_DEVICE_STATUS_CHARGE_DISCHARGING = 0, PL_DEVICE_STATUS_CHARGE_CHARGING = 1, PL_DEVICE_STATUS_CHARGE_FULL = 2, PL_DEVICE_STATUS_CHARGE_FAULT = 3 };
#define PL_DEVICE_STATUS_SIGNAL_DBM_UNKNOWN (-128)
#define PL_DEVICE_STATUS_TEMPERATURE_C_UNKNOWN (-128)
#define PL_DEVICE_STATUS_STORAGE_FREE_PCT_UNKNOWN 255
enum { PL_DEVICE_STATUS_ERRORS_GPS_SILENT = 1, PL_DEVICE_STATUS_ERRORS_CLOCK_UNSET = 2, PL_DEVICE_STATUS_ERRORS_STORAGE_FULL = 4, PL_DEVICE_STATUS_ERRORS_STORAGE_FAULT = 8, PL_DEVICE_STATUS_ERRORS_MODEM_FAULT = 16, PL_DEVICE_STATUS_ERRORS_CAMERA_FAULT = 32, PL_DEVICE_STATUS_ERRORS_MICROPHONE_FAULT = 64, PL_DEVICE_STATUS_ERRORS_OUTBOX_DROPPED = 128, PL_DEVICE_STATUS_ERRORS_KEY_EXHAUSTED = 256, PL_DEVICE_STATUS_ERRORS_OVERHEATED = 512 };
#define PL_DEVICE_STATUS_HEAP_FREE_KB_UNKNOWN 65535
enum { PL_DEVICE_STATUS_LINK_MODEM = 0, PL_DEVICE_STATUS_LINK_SIM = 1, PL_DEVICE_STATUS_LINK_NETWORK = 2, PL_DEVICE_STATUS_LINK_PDP = 3, PL_DEVICE_STATUS_LINK_SESSION = 4, PL_DEVICE_STATUS_LINK_UP = 5 };
enum { PL_DEVICE_STATUS_RUNG_WELL = 0, PL_DEVICE_STATUS_RUNG_RETRY = 1, PL_DEVICE_STATUS_RUNG_REOPEN = 2, PL_DEVICE_STATUS_RUNG_PDP = 3, PL_DEVICE_STATUS_RUNG_RADIO = 4, PL_DEVICE_STATUS_RUNG_MODEM_RESET = 5, PL_DEVICE_STATUS_RUNG_BOARD_RESET = 6 };

/* No position is available: duration, reason, and the last known position. */
typedef struct {
    uint64_t time_ms; /* ms */
    uint32_t since_s; /* s */
    uint8_t reason;
    uint8_t sats_in_view;
    int32_t lat_e7; /* 1e-7 deg */
    int32_t lon_e7; /* 1e-7 deg */
    struct { uint8_t len, data[32]; } cell;
} pl_no_fix;
#define PL_NO_FIX_TIME_MS_UNKNOWN UINT64_C(0)
enum { PL_NO_FIX_REASON_SEARCHING = 0, PL_NO_FIX_REASON_RECEIVER_SILENT = 1, PL_NO_FIX_REASON_NO_SKY = 2, PL_NO_FIX_REASON_JAMMED = 3, PL_NO_FIX_REASON_SWITCHED_OFF = 4 };
#define PL_NO_FIX_SATS_IN_VIEW_UNKNOWN 255
#define PL_NO_FIX_LAT_E7_UNKNOWN (-2147483647 - 1)
#define PL_NO_FIX_LON_E7_UNKNOWN (-2147483647 - 1)

/* An event of the wearer or the device. An event with ack_wanted is repeated until an event_state closes it: with growing intervals until the first answer, then once a minute. */
typedef struct {
    uint32_t event_id;
    uint8_t kind;
    uint8_t phase;
    uint8_t ack_wanted;
    uint8_t cause;
    uint64_t time_ms; /* ms */
    int32_t lat_e7; /* 1e-7 deg */
    int32_t lon_e7; /* 1e-7 deg */
    uint16_t hacc_m; /* m */
    uint16_t fix_age_s; /* s */
    uint32_t ref;
    int32_t value;
    struct { uint8_t len, data[80]; } text;
} pl_event;
enum { PL_EVENT_KIND_SOS = 1, PL_EVENT_KIND_MAN_DOWN = 2, PL_EVENT_KIND_GEOFENCE_ENTER = 3, PL_EVENT_KIND_GEOFENCE_LEAVE = 4, PL_EVENT_KIND_RECORDING_START = 5, PL_EVENT_KIND_RECORDING_STOP = 6, PL_EVENT_KIND_TAMPER = 7, PL_EVENT_KIND_LOW_BATTERY = 8, PL_EVENT_KIND_LIVE_VIEW_START = 9, PL_EVENT_KIND_LIVE_VIEW_STOP = 10, PL_EVENT_KIND_POWER_OFF = 11, PL_EVENT_KIND_STORAGE_LOW = 12 };
enum { PL_EVENT_PHASE_RAISED = 0, PL_EVENT_PHASE_UPDATED = 1, PL_EVENT_PHASE_CANCELLED = 2, PL_EVENT_PHASE_CLEARED = 3 };
enum { PL_EVENT_CAUSE_BUTTON = 0, PL_EVENT_CAUSE_MOTION = 1, PL_EVENT_CAUSE_DISPATCHER = 2, PL_EVENT_CAUSE_RULE = 3, PL_EVENT_CAUSE_SCHEDULE = 4, PL_EVENT_CAUSE_FAULT = 5 };
#define PL_EVENT_TIME_MS_UNKNOWN UINT64_C(0)
#define PL_EVENT_LAT_E7_UNKNOWN (-2147483647 - 1)
#define PL_EVENT_LON_E7_UNKNOWN (-2147483647 - 1)
#define PL_EVENT_HACC_M_UNKNOWN 65535
#define PL_EVENT_FIX_AGE_S_UNKNOWN 65535
#define PL_EVENT_REF_UNKNOWN 4294967295u
#define PL_EVENT_VALUE_UNKNOWN (-2147483647 - 1)

/* An authentic frame was refused. Never sent for a frame whose tag did not match, nor for a reject. */
typedef struct {
    uint32_t refused_counter;
    uint8_t message_type;
    uint8_t reason;
    struct { uint8_t len, data[40]; } detail;
} pl_reject;

/* Summary of one talk burst that the device sent or received (TS 22.179 KPIs). */
typedef struct {
    uint32_t group;
    uint8_t role;
    uint8_t outcome;
    uint64_t start_ms; /* ms */
    uint32_t duration_ms; /* ms */
    uint16_t access_ms; /* ms */
    uint16_t packets;
    uint16_t lost;
    uint16_t jitter_ms; /* ms */
    uint32_t ssrc;
} pl_ptt_burst;
enum { PL_PTT_BURST_ROLE_TALKED = 0, PL_PTT_BURST_ROLE_HEARD = 1 };
enum { PL_PTT_BURST_OUTCOME_GRANTED = 0, PL_PTT_BURST_OUTCOME_QUEUED = 1, PL_PTT_BURST_OUTCOME_DENIED = 2, PL_PTT_BURST_OUTCOME_FAILED = 3, PL_PTT_BURST_OUTCOME_ABANDONED = 4, PL_PTT_BURST_OUTCOME_REVOKED = 5 };
#define PL_PTT_BURST_START_MS_UNKNOWN UINT64_C(0)
#define PL_PTT_BURST_ACCESS_MS_UNKNOWN 65535
#define PL_PTT_BURST_JITTER_MS_UNKNOWN 65535

/* A text message or an alert for a person. */
typedef struct {
    uint32_t text_id;
    uint64_t time_ms; /* ms */
    uint8_t priority;
    uint8_t ack;
    int32_t lat_e7; /* 1e-7 deg */
    int32_t lon_e7; /* 1e-7 deg */
    struct { uint8_t len, data[40]; } sender;
    struct { uint8_t len, data[240]; } text;
} pl_text;
#define PL_TEXT_TIME_MS_UNKNOWN UINT64_C(0)
enum { PL_TEXT_PRIORITY_ROUTINE = 0, PL_TEXT_PRIORITY_NOTICE = 1, PL_TEXT_PRIORITY_ALERT = 2, PL_TEXT_PRIORITY_EMERGENCY = 3 };
enum { PL_TEXT_ACK_NONE = 0, PL_TEXT_ACK_RECEIVED = 1, PL_TEXT_ACK_READ = 2, PL_TEXT_ACK_ACCEPTED = 3, PL_TEXT_ACK_ARRIVED = 4, PL_TEXT_ACK_RESOLVED = 5 };
#define PL_TEXT_LAT_E7_UNKNOWN (-2147483647 - 1)
#define PL_TEXT_LON_E7_UNKNOWN (-2147483647 - 1)

/* State of a text at its reader. States only advance; each is reported once. */
typedef struct {
    uint32_t text_id;
    uint8_t state;
    uint64_t time_ms; /* ms */
} pl_text_state;
enum { PL_TEXT_STATE_STATE_RECEIVED = 1, PL_TEXT_STATE_STATE_READ = 2, PL_TEXT_STATE_STATE_ACCEPTED = 3, PL_TEXT_STATE_STATE_ARRIVED = 4, PL_TEXT_STATE_STATE_RESOLVED = 5, PL_TEXT_STATE_STATE_DECLINED = 6 };
#define PL_TEXT_STATE_TIME_MS_UNKNOWN UINT64_C(0)

/* Start or end of duty, arrival at or departure from a post, welfare check. */
typedef struct {
    uint8_t kind;
    uint64_t time_ms; /* ms */
    uint32_t post;
    int32_t lat_e7; /* 1e-7 deg */
    int32_t lon_e7; /* 1e-7 deg */
    struct { uint8_t len, data[32]; } wearer;
} pl_duty;
enum { PL_DUTY_KIND_CHECK_IN = 1, PL_DUTY_KIND_CHECK_OUT = 2, PL_DUTY_KIND_POST_ARRIVE = 3, PL_DUTY_KIND_POST_LEAVE = 4, PL_DUTY_KIND_WELFARE_OK = 5, PL_DUTY_KIND_WELFARE_MISSED = 6 };
#define PL_DUTY_TIME_MS_UNKNOWN UINT64_C(0)
#define PL_DUTY_POST_UNKNOWN 4294967295u
#define PL_DUTY_LAT_E7_UNKNOWN (-2147483647 - 1)
#define PL_DUTY_LON_E7_UNKNOWN (-2147483647 - 1)

/* Summary of a duty, sent at its end. */
typedef struct {
    uint64_t start_ms; /* ms */
    uint64_t end_ms; /* ms */
    uint32_t distance_m; /* m */
    uint32_t fixes;
    uint16_t posts;
    uint16_t events;
    uint16_t bursts;
    uint16_t clips;
    uint32_t no_fix_s; /* s */
    uint32_t offline_s; /* s */
} pl_patrol_summary;
#define PL_PATROL_SUMMARY_START_MS_UNKNOWN UINT64_C(0)
#define PL_PATROL_SUMMARY_END_MS_UNKNOWN UINT64_C(0)

/* Hazard report, with an optional photo. */
typedef struct {
    uint32_t hazard_id;
    uint8_t kind;
    uint8_t severity;
    uint64_t time_ms; /* ms */
    int32_t lat_e7; /* 1e-7 deg */
    int32_t lon_e7; /* 1e-7 deg */
    uint32_t photo_clip;
    struct { uint8_t len, data[32]; } photo_sha256;
    struct { uint8_t len, data[200]; } text;
} pl_hazard;
enum { PL_HAZARD_KIND_OTHER = 0, PL_HAZARD_KIND_FIRE = 1, PL_HAZARD_KIND_FLOOD = 2, PL_HAZARD_KIND_TRAFFIC = 3, PL_HAZARD_KIND_STOLEN_VEHICLE = 4, PL_HAZARD_KIND_FRAUD = 5, PL_HAZARD_KIND_MISSING_PERSON = 6, PL_HAZARD_KIND_CROWD = 7, PL_HAZARD_KIND_INFRASTRUCTURE = 8, PL_HAZARD_KIND_MEDICAL = 9 };
enum { PL_HAZARD_SEVERITY_INFORMATION = 0, PL_HAZARD_SEVERITY_MINOR = 1, PL_HAZARD_SEVERITY_SERIOUS = 2, PL_HAZARD_SEVERITY_LIFE = 3 };
#define PL_HAZARD_TIME_MS_UNKNOWN UINT64_C(0)
#define PL_HAZARD_LAT_E7_UNKNOWN (-2147483647 - 1)
#define PL_HAZARD_LON_E7_UNKNOWN (-2147483647 - 1)
#define PL_HAZARD_PHOTO_CLIP_UNKNOWN 4294967295u
#define PL_HAZARD_PHOTO_SHA256_UNKNOWN 0

/* Talk groups and group keys that the device holds. The hub sends `ptt_group` again for each group that differs from the terms in force (PTT.md). */
typedef struct {
    uint8_t room;
    struct { uint8_t len, data[250]; } groups;
} pl_ptt_status;

/* Request for the bytes of an image from an offset. One request is outstanding at a time; the hub answers with one `firmware_block`, and only for an image that it requested to be installed. */
typedef struct {
    struct { uint8_t len, data[8]; } image;
    uint32_t offset; /* B */
    uint16_t max_bytes; /* B */
} pl_firmware_request;

/* Bytes of an image. The device ignores a block of another image, another offset, or more bytes than it requested. The image is verified by the signature of its header and by its hashes. */
typedef struct {
    struct { uint8_t len, data[8]; } image;
    uint32_t offset; /* B */
    struct { uint16_t len; uint8_t data[900]; } data;
} pl_firmware_block;

/* Clock offset as in NTP (RFC 5905, section 8): the device sends `originate_ms` only, the hub answers with all three times. */
typedef struct {
    uint64_t originate_ms; /* ms */
    uint64_t receive_ms; /* ms */
    uint64_t transmit_ms; /* ms */
} pl_time_sync;
#define PL_TIME_SYNC_RECEIVE_MS_UNKNOWN UINT64_C(0)
#define PL_TIME_SYNC_TRANSMIT_MS_UNKNOWN UINT64_C(0)

/* Answer of the hub to an event: who handles it. The device shows it to the wearer. */
typedef struct {
    uint32_t event_id;
    uint8_t state;
    uint64_t time_ms; /* ms */
    uint16_t eta_s; /* s */
    struct { uint8_t len, data[40]; } who;
} pl_event_state;
enum { PL_EVENT_STATE_STATE_RECEIVED = 1, PL_EVENT_STATE_STATE_READ = 2, PL_EVENT_STATE_STATE_ACCEPTED = 3, PL_EVENT_STATE_STATE_ARRIVED = 4, PL_EVENT_STATE_STATE_RESOLVED = 5, PL_EVENT_STATE_STATE_FALSE_ALARM = 6 };
#define PL_EVENT_STATE_TIME_MS_UNKNOWN UINT64_C(0)
#define PL_EVENT_STATE_ETA_S_UNKNOWN 65535

/* Membership of the device in a talk group, with its terms and keys (PTT.md), or the end of the membership. The newest message of a group is in force. */
typedef struct {
    uint32_t group;
    uint8_t kind;
    uint8_t rights;
    uint8_t priority;
    uint8_t rank;
    uint8_t codec;
    uint32_t ssrc;
    uint32_t hub_ssrc;
    uint16_t key;
    struct { uint8_t len, data[40]; } wrapped;
    uint16_t floor_port;
    uint16_t media_port;
    struct { uint8_t len, data[64]; } host;
    struct { uint8_t len, data[40]; } name;
} pl_ptt_group;
enum { PL_PTT_GROUP_KIND_GROUP = 0, PL_PTT_GROUP_KIND_PRIVATE = 1, PL_PTT_GROUP_KIND_DYNAMIC = 2 };
enum { PL_PTT_GROUP_RIGHTS_LISTEN = 1, PL_PTT_GROUP_RIGHTS_TALK = 2, PL_PTT_GROUP_RIGHTS_EMERGENCY = 4, PL_PTT_GROUP_RIGHTS_BROADCAST = 8 };
enum { PL_PTT_GROUP_CODEC_PCMA = 0, PL_PTT_GROUP_CODEC_OPUS = 1 };

/* Announces a clip: its contents and the end of its hash chain. */
typedef struct {
    uint32_t clip_id;
    uint8_t trigger;
    uint8_t codec;
    uint64_t start_ms; /* ms */
    uint32_t duration_ms; /* ms */
    uint32_t pre_event_ms; /* ms */
    uint16_t segments;
    uint32_t bytes; /* B */
    uint32_t event_id;
    struct { uint8_t len, data[32]; } previous_chain;
    struct { uint8_t len, data[32]; } chain;
    struct { uint8_t len, data[33]; } signer;
    struct { uint8_t len, data[64]; } signature;
} pl_clip_manifest;
enum { PL_CLIP_MANIFEST_TRIGGER_BUTTON = 0, PL_CLIP_MANIFEST_TRIGGER_SOS = 1, PL_CLIP_MANIFEST_TRIGGER_MAN_DOWN = 2, PL_CLIP_MANIFEST_TRIGGER_DISPATCHER = 3, PL_CLIP_MANIFEST_TRIGGER_GEOFENCE = 4, PL_CLIP_MANIFEST_TRIGGER_PHOTO = 5 };
enum { PL_CLIP_MANIFEST_CODEC_MJPEG_AVI = 1, PL_CLIP_MANIFEST_CODEC_H264_MP4 = 2, PL_CLIP_MANIFEST_CODEC_JPEG = 3, PL_CLIP_MANIFEST_CODEC_PCMA_WAV = 4, PL_CLIP_MANIFEST_CODEC_OPUS_OGG = 5 };
#define PL_CLIP_MANIFEST_START_MS_UNKNOWN UINT64_C(0)
#define PL_CLIP_MANIFEST_EVENT_ID_UNKNOWN 4294967295u
#define PL_CLIP_MANIFEST_PREVIOUS_CHAIN_UNKNOWN 0
#define PL_CLIP_MANIFEST_SIGNER_UNKNOWN 0
#define PL_CLIP_MANIFEST_SIGNATURE_UNKNOWN 0

/* Upload state of a clip. The device may release a clip only after `verified` from the hub. */
typedef struct {
    uint32_t clip_id;
    uint8_t state;
    uint32_t bytes_done; /* B */
    uint64_t time_ms; /* ms */
} pl_clip_state;
enum { PL_CLIP_STATE_STATE_RECORDING = 1, PL_CLIP_STATE_STATE_KEPT = 2, PL_CLIP_STATE_STATE_UPLOADING = 3, PL_CLIP_STATE_STATE_UPLOADED = 4, PL_CLIP_STATE_STATE_VERIFIED = 5, PL_CLIP_STATE_STATE_RELEASED = 6, PL_CLIP_STATE_STATE_DAMAGED = 7, PL_CLIP_STATE_STATE_LOCKED = 8 };
#define PL_CLIP_STATE_TIME_MS_UNKNOWN UINT64_C(0)

/* Request to the device to act. The device shows each command to the wearer, writes it to its audit log, and answers it. */
typedef struct {
    uint32_t command_id;
    uint8_t action;
    uint64_t expires_ms; /* ms */
    struct { uint8_t len, data[40]; } operator_;
    uint32_t number;
    struct { uint8_t len, data[40]; } name;
    struct { uint8_t len, data[120]; } value;
} pl_command;
enum { PL_COMMAND_ACTION_START_RECORDING = 1, PL_COMMAND_ACTION_STOP_RECORDING = 2, PL_COMMAND_ACTION_SNAPSHOT = 3, PL_COMMAND_ACTION_LIVE_VIEW_START = 4, PL_COMMAND_ACTION_LIVE_VIEW_STOP = 5, PL_COMMAND_ACTION_CALL = 6, PL_COMMAND_ACTION_CONFIGURE = 7, PL_COMMAND_ACTION_LOCATE = 8, PL_COMMAND_ACTION_REBOOT = 9, PL_COMMAND_ACTION_STUN = 10, PL_COMMAND_ACTION_REVIVE = 11, PL_COMMAND_ACTION_ROTATE_KEY = 12, PL_COMMAND_ACTION_STATUS = 13, PL_COMMAND_ACTION_PRESERVE_CLIP = 14 };
#define PL_COMMAND_NUMBER_UNKNOWN 4294967295u

/* Result of a command. */
typedef struct {
    uint32_t command_id;
    uint8_t result;
    uint64_t time_ms; /* ms */
    uint32_t ref;
    struct { uint8_t len, data[80]; } text;
} pl_answer;
enum { PL_ANSWER_RESULT_DONE = 0, PL_ANSWER_RESULT_STARTED = 1, PL_ANSWER_RESULT_REFUSED = 2, PL_ANSWER_RESULT_UNSUPPORTED = 3, PL_ANSWER_RESULT_EXPIRED = 4, PL_ANSWER_RESULT_FAILED = 5, PL_ANSWER_RESULT_BUSY = 6 };
#define PL_ANSWER_TIME_MS_UNKNOWN UINT64_C(0)
#define PL_ANSWER_REF_UNKNOWN 4294967295u

/* Request to install a firmware image, or to cancel that. The device shows it to the wearer, writes it to its audit log, and answers it with `firmware_status`. A repetition of a command_id changes nothing; the device reports its last state again. An install request replaces an earlier one that is not installed yet. */
typedef struct {
    uint32_t command_id;
    uint8_t action;
    uint64_t expires_ms; /* ms */
    struct { uint8_t len, data[40]; } operator_;
    struct { uint8_t len, data[8]; } image;
    uint32_t bytes; /* B */
    uint32_t rollback_floor;
    struct { uint8_t len, data[24]; } version;
} pl_firmware;
enum { PL_FIRMWARE_ACTION_INSTALL = 1, PL_FIRMWARE_ACTION_CANCEL = 2 };
#define PL_FIRMWARE_BYTES_UNKNOWN 0

/* State of an installation, sent once for each change of state or reason. `confirmed`, `refused`, `failed`, `rolled_back` and `cancelled` end it. */
typedef struct {
    uint32_t command_id;
    uint8_t state;
    uint8_t reason;
    struct { uint8_t len, data[8]; } content;
    uint32_t rollback_floor;
    struct { uint8_t len, data[80]; } text;
} pl_firmware_status;
enum { PL_FIRMWARE_STATUS_STATE_FETCHING = 1, PL_FIRMWARE_STATUS_STATE_DEFERRED = 2, PL_FIRMWARE_STATUS_STATE_INSTALLED = 3, PL_FIRMWARE_STATUS_STATE_CONFIRMED = 4, PL_FIRMWARE_STATUS_STATE_REFUSED = 5, PL_FIRMWARE_STATUS_STATE_FAILED = 6, PL_FIRMWARE_STATUS_STATE_ROLLED_BACK = 7, PL_FIRMWARE_STATUS_STATE_CANCELLED = 8 };
enum { PL_FIRMWARE_STATUS_REASON_NONE = 0, PL_FIRMWARE_STATUS_REASON_NO_SLOTS = 1, PL_FIRMWARE_STATUS_REASON_EXPIRED = 2, PL_FIRMWARE_STATUS_REASON_BUSY = 3, PL_FIRMWARE_STATUS_REASON_SIGNATURE = 4, PL_FIRMWARE_STATUS_REASON_BOARD = 5, PL_FIRMWARE_STATUS_REASON_ARCHITECTURE = 6, PL_FIRMWARE_STATUS_REASON_PLATFORM = 7, PL_FIRMWARE_STATUS_REASON_ROLLBACK = 8, PL_FIRMWARE_STATUS_REASON_BASE = 9, PL_FIRMWARE_STATUS_REASON_FORMAT = 10, PL_FIRMWARE_STATUS_REASON_DAMAGED = 11, PL_FIRMWARE_STATUS_REASON_NO_SPACE = 12, PL_FIRMWARE_STATUS_REASON_STORAGE = 13, PL_FIRMWARE_STATUS_REASON_SOS = 14, PL_FIRMWARE_STATUS_REASON_VOICE = 15, PL_FIRMWARE_STATUS_REASON_RECORDING = 16, PL_FIRMWARE_STATUS_REASON_BATTERY = 17, PL_FIRMWARE_STATUS_REASON_REPLACED = 18 };

/* Certification mode, modelled on LoRaWAN TS009: a tester controls the device through the protocol. The device shows the mode to the wearer and leaves it after `seconds`. */
typedef struct {
    uint8_t operation;
    uint16_t seconds; /* s */
    uint32_t frames_accepted;
    uint32_t frames_refused;
    struct { uint8_t len, data[200]; } payload;
} pl_certify;
enum { PL_CERTIFY_OPERATION_ENTER = 1, PL_CERTIFY_OPERATION_LEAVE = 2, PL_CERTIFY_OPERATION_ECHO = 3, PL_CERTIFY_OPERATION_REPORT_COUNTERS = 4, PL_CERTIFY_OPERATION_SEND_VECTOR = 5, PL_CERTIFY_OPERATION_POWER_CUT = 6, PL_CERTIFY_OPERATION_RESULT = 7 };

/* Any scalar message. */
typedef struct {
    uint8_t type;
    union {
        pl_hello hello;
        pl_device_status device_status;
        pl_no_fix no_fix;
        pl_event event;
        pl_reject reject;
        pl_ptt_burst ptt_burst;
        pl_text text;
        pl_text_state text_state;
        pl_duty duty;
        pl_patrol_summary patrol_summary;
        pl_hazard hazard;
        pl_ptt_status ptt_status;
        pl_firmware_request firmware_request;
        pl_firmware_block firmware_block;
        pl_time_sync time_sync;
        pl_event_state event_state;
        pl_ptt_group ptt_group;
        pl_clip_manifest clip_manifest;
        pl_clip_state clip_state;
        pl_command command;
        pl_answer answer;
        pl_firmware firmware;
        pl_firmware_status firmware_status;
        pl_certify certify;
    } as;
} pl_message;

#ifdef __cplusplus
extern "C" {
#endif

/* --- frames ------------------------------------------------------------------------------------------------- */

/* Results of a call. 1 to 8 are the reasons of the reject table; a receiver may send them in a `reject` message. */
enum {
    PL_OK = 0,
    PL_ERR_RANGE = -1, /* encoding: a value does not fit its field or column */
    PL_ERR_SPACE = -2, /* encoding: the buffer is too short; decoding: more rows than max_rows */
    PL_REPEATED = -3,  /* receiving on a host: already accepted; drop it silently */
    PL_ERR_CIPHER = -4 /* the message is confidential, and the channel has no cipher */
};

/* Encrypt a block with AES-128 (FIPS 197): hardware, or a library. `in` and `out` do not overlap. */
typedef void pl_aes128(const uint8_t key[16], const uint8_t in[16], uint8_t out[16]);

/* One direction of one device in one key epoch. Its contents are secret: pl_wipe it when it is no longer used. */
typedef struct {
    uint32_t inner[8], outer[8]; /* SHA-256 after HMAC's padded keys (RFC 2104) */
    uint8_t cipher_key[16];
    pl_aes128 *aes;
    uint8_t context[34];
    uint8_t context_len;
    uint8_t direction; /* 0 up, 1 down */
    uint8_t phase;
} pl_channel;

typedef struct {
    bool genuine; /* tag, flags and phase are right, and type and counter are set; also of a frame that is refused */
    uint8_t type;
    uint32_t counter;
    const uint8_t *body;
    size_t body_len;
    const uint8_t *tail; /* type, length, value, repeated; elective extensions only */
    size_t tail_len;
} pl_frame;

/* Prepare a channel. id_len is 1 to 32; PL_ERR_RANGE otherwise. `aes` is NULL on a device that neither sends nor receives
 * confidential messages (PL_CONFIDENTIAL). */
int pl_channel_init(pl_channel *ch, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction,
                    uint32_t epoch, pl_aes128 *aes);

/* Verify a frame and return its parts; `out` points into `data`, where an encrypted frame is decrypted. The caller checks
 * the counter. */
int pl_open(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out);

/* Complete the frame whose body is buf[PL_HEADER] to buf[end - 1] (with `tail`: body and TLV tail). *len is its length. A
 * confidential message is encrypted; the counter is its nonce, so none may be used for two frames. */
int pl_seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, bool tail,
            size_t *len);

/* Overwrite secrets with zeros; compilers do not remove it. */
void pl_wipe(void *data, size_t len);

/* HMAC-SHA256 under a channel's key, for tests. */
void pl_mac(const pl_channel *ch, const uint8_t *data, size_t len, uint8_t digest[32]);

/* Receiver of one device's frames in one direction: checks tag, epoch and counter. It holds the device key: pl_wipe it
 * when it is no longer used. */
typedef struct {
    uint8_t key[32];
    uint8_t id[32];
    uint8_t id_len;
    uint32_t epoch;
    pl_channel channel;
    int64_t highest; /* highest counter accepted; -1: none. A device restores it from storage, and stores it before it acts */
    uint8_t *seen;   /* a host: (PL_REPLAY_WINDOW + 7) / 8 bytes; a device: NULL */
} pl_receiver;

/* direction 0 (a host receives up) needs `seen`; direction 1 (a device receives down) does not. */
int pl_receiver_init(pl_receiver *r, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction,
                     uint32_t epoch, uint8_t *seen, pl_aes128 *aes);

/* Like pl_open, but the first authentic frame of the next epoch begins it, and its counter is taken before its tail and
 * type are read, whatever they hold. Returns PL_OK, PL_REPEATED, PL_ERR_CIPHER or a reason. */
int pl_receive(pl_receiver *r, uint8_t *data, size_t len, pl_frame *out);

/* Limits the rate of `reject` messages to one peer. Begin with all members zero. */
typedef struct {
    int64_t next_ms, next_replay_ms;
} pl_reject_gate;

/* Whether a frame that pl_receive, pl_decode or pl_track_decode refused for this reason is answered with a `reject`. now_ms
 * is the time of any clock that does not go back. */
bool pl_may_reject(pl_reject_gate *gate, const pl_frame *frame, int reason, int64_t now_ms);

/* --- scalar messages ---------------------------------------------------------------------------------------- */

/* Decode the body of any scalar message; an unknown field holds its PL_..._UNKNOWN code. */
int pl_decode(uint8_t type, const uint8_t *body, size_t len, pl_message *out);

/* Write the body of out->type at buf; *len is its length. */
int pl_encode(const pl_message *in, uint8_t *buf, size_t cap, size_t *len);

/* --- position batches --------------------------------------------------------------------------------------- */

#define PL_UNKNOWN (-(1 << 30)) /* in a row: the value is not known */

/* A position in device units: see enum pl_column. */
typedef struct {
    int64_t time_ms; /* unix time */
    int32_t value[PL_COLUMNS - 1];
} pl_row;

/* Decode a batch into rows[0] to rows[*count - 1]; PL_ERR_SPACE if it has more than max_rows rows. */
int pl_track_decode(const uint8_t *body, size_t len, pl_row *rows, size_t max_rows, size_t *count, int *resolution);

/* Encode 1 to PL_MAX_BATCH rows within six days of each other. resolution is 5, 6 or 7; bit j of `omit` omits optional
 * column j. Needs at most 1.5 KB of stack. */
int pl_track_encode(const pl_row *rows, size_t count, int resolution, bool rice, unsigned omit, uint8_t *buf, size_t cap,
                    size_t *len);

/* --- serial lines ------------------------------------------------------------------------------------------- */

#define PL_MAX_PACKET (PL_MAX_FRAME + 2 + (PL_MAX_FRAME + 2) / 254 + 2)

/* Write the packet of a frame, with CRC, COBS and the zero byte at its end. PL_MAX_PACKET bytes are enough for `buf`. */
int pl_packet(const uint8_t *frame, size_t len, uint8_t *buf, size_t cap, size_t *packet_len);

/* Finds frames in the bytes from a serial line. Begin with all members zero. */
typedef struct {
    uint8_t data[PL_MAX_FRAME + 2]; /* the frame, then its CRC */
    size_t len;
    uint8_t left;            /* bytes up to the end of the COBS block */
    bool started, zero, bad; /* a packet has begun; a zero follows the block; the packet is too long */
} pl_unpacker;

/* Take a byte. Returns the length of the frame in u->data that it completes, 0, or PL_ERR_RANGE at the end of an invalid
 * packet. */
int pl_unpack(pl_unpacker *u, uint8_t byte);

#ifdef __cplusplus
}
#endif


#endif
