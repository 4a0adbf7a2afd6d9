"""Tables of the Patrolink protocol. Generated from protocol/schema.toml by protocol/generate.py; do not edit."""

VERSION = 1
MINOR = 0
TAG_BYTES = 8
LONG_TAG_BYTES = 16
LONG_TAG_FROM = 20
COUNTER_BITS = 28
FLAG_TAIL = 8
FLAG_PHASE = 4
FLAG_ENCRYPTED = 2
MAX_FRAME = 1024
MAX_BATCH = 255
REPLAY_WINDOW = 65536
SCHEMA_HASH = 0x21A2612A
TIME_MAX_MS = 4294967295999

# Bit t is set if type t is allowed up, is allowed down, is encrypted by its sender.
UP = 0x1AC47FFE
DOWN = 0x15B48340
CONFIDENTIAL = 0x03F03FB4

HELLO = 1
POSITION_BATCH = 2
DEVICE_STATUS = 3
NO_FIX = 4
EVENT = 5
REJECT = 6
PTT_BURST = 7
TEXT = 8
TEXT_STATE = 9
DUTY = 10
PATROL_SUMMARY = 11
HAZARD = 12
PTT_STATUS = 13
FIRMWARE_REQUEST = 14
FIRMWARE_BLOCK = 15
TIME_SYNC = 18
EVENT_STATE = 20
PTT_GROUP = 21
CLIP_MANIFEST = 22
CLIP_STATE = 23
COMMAND = 24
ANSWER = 25
FIRMWARE = 26
FIRMWARE_STATUS = 27
CERTIFY = 28

# Type, minimum and maximum length of each extension of this protocol; all are elective.
EXTENSIONS = ((1, 1, 32),)

# Names of the reasons to refuse a frame, by code from 1.
REASONS = "length version type tag key replay range critical"

# One line per message: type, name, one word per field: name:letter[:min[:max[:unknown]]], or
# name:s:max_bytes[:min_bytes[:0]] (0: may be empty); then one word per pair of fields: lat_e7=lon_e7 (both
# known or both unknown), lost<packets (at most, if both are known). One text, because tables of tuples would
# need ten times the memory.
MESSAGES = (
    "\n"
    "1 hello boot:I schema_hash:I minor:B profiles:H heap_kb:H date_floor:H batch_fixes:B:1 board:s:24 "
    "firmware:s:24 runtime:s:40 content:x:8:8 rollback_floor:I platform:H\n"
    "2 position_batch\n"
    "3 device_status uptime_s:I gps_mode:B::3 gps_sats:B::254:255 battery_pct:B::100:255 charge:B::3:255 "
    "signal_dbm:b:-127:0:-128 temperature_c:b:-127::-128 storage_free_pct:B::100:255 errors:H "
    "heap_free_kb:H::65534:65535 queue_frames:H dropped_frames:I reconnects:H link:B::5 rung:B::6 "
    "nmea_sentences:I nmea_errors:I fixes:I\n"
    "4 no_fix time_ms:Q:1:4294967295999:0 since_s:I reason:B sats_in_view:B::254:255 "
    "lat_e7:i:-900000000:900000000:-2147483648 lon_e7:i:-1800000000:1800000000:-2147483648 cell:s:32 "
    "lat_e7=lon_e7\n"
    "5 event event_id:I kind:B phase:B::3 ack_wanted:B::1 cause:B time_ms:Q:1:4294967295999:0 "
    "lat_e7:i:-900000000:900000000:-2147483648 lon_e7:i:-1800000000:1800000000:-2147483648 "
    "hacc_m:H::65534:65535 fix_age_s:H::65534:65535 ref:I::4294967294:4294967295 "
    "value:i:-2147483647::-2147483648 text:s:80 lat_e7=lon_e7\n"
    "6 reject refused_counter:I::268435455 message_type:B::31 reason:B detail:s:40\n"
    "7 ptt_burst group:I role:B::1 outcome:B start_ms:Q:1:4294967295999:0 duration_ms:I "
    "access_ms:H::65534:65535 packets:H lost:H jitter_ms:H::65534:65535 ssrc:I lost<packets\n"
    "8 text text_id:I time_ms:Q:1:4294967295999:0 priority:B::3 ack:B::5 "
    "lat_e7:i:-900000000:900000000:-2147483648 lon_e7:i:-1800000000:1800000000:-2147483648 sender:s:40 "
    "text:s:240 lat_e7=lon_e7\n"
    "9 text_state text_id:I state:B:1:6 time_ms:Q:1:4294967295999:0\n"
    "10 duty kind:B time_ms:Q:1:4294967295999:0 post:I::4294967294:4294967295 "
    "lat_e7:i:-900000000:900000000:-2147483648 lon_e7:i:-1800000000:1800000000:-2147483648 wearer:s:32 "
    "lat_e7=lon_e7\n"
    "11 patrol_summary start_ms:Q:1:4294967295999:0 end_ms:Q:1:4294967295999:0 distance_m:I fixes:I posts:H "
    "events:H bursts:H clips:H no_fix_s:I offline_s:I start_ms<end_ms\n"
    "12 hazard hazard_id:I kind:B severity:B::3 time_ms:Q:1:4294967295999:0 "
    "lat_e7:i:-900000000:900000000:-2147483648 lon_e7:i:-1800000000:1800000000:-2147483648 "
    "photo_clip:I::4294967294:4294967295 photo_sha256:x:32:32:0 text:s:200 lat_e7=lon_e7\n"
    "13 ptt_status room:B groups:x:250\n"
    "14 firmware_request image:x:8:8 offset:I::16777471 max_bytes:H:1:900\n"
    "15 firmware_block image:x:8:8 offset:I::16777471 data:x:900:1\n"
    "18 time_sync originate_ms:Q::4294967295999 receive_ms:Q:1:4294967295999:0 transmit_ms:Q:1:4294967295999:0 "
    "receive_ms=transmit_ms\n"
    "20 event_state event_id:I state:B time_ms:Q:1:4294967295999:0 eta_s:H::65534:65535 who:s:40\n"
    "21 ptt_group group:I kind:B rights:B priority:B rank:B codec:B::1 ssrc:I:2147483648 hub_ssrc:I key:H "
    "wrapped:x:40 floor_port:H media_port:H host:s:64 name:s:40\n"
    "22 clip_manifest clip_id:I trigger:B codec:B start_ms:Q:1:4294967295999:0 duration_ms:I pre_event_ms:I "
    "segments:H:1 bytes:I event_id:I::4294967294:4294967295 previous_chain:x:32:32:0 chain:x:32:32 "
    "signer:x:33:33:0 signature:x:64:64:0 pre_event_ms<duration_ms signer=signature\n"
    "23 clip_state clip_id:I state:B bytes_done:I time_ms:Q:1:4294967295999:0\n"
    "24 command command_id:I action:B expires_ms:Q:1:4294967295999 operator:s:40 "
    "number:I::4294967294:4294967295 name:s:40 value:s:120\n"
    "25 answer command_id:I result:B time_ms:Q:1:4294967295999:0 ref:I::4294967294:4294967295 text:s:80\n"
    "26 firmware command_id:I action:B expires_ms:Q:1:4294967295999 operator:s:40 image:x:8:8 "
    "bytes:I:257:16777472:0 rollback_floor:I version:s:24\n"
    "27 firmware_status command_id:I state:B reason:B content:x:8:8 rollback_floor:I text:s:80\n"
    "28 certify operation:B seconds:H frames_accepted:I frames_refused:I payload:x:200\n"
)

# name:divisor:raw bits:min:max:keyframe k:signed:optional:modulus; comma-separated values: by resolution
COLUMNS = (
    "time:0:32:0:4294967295999:-1:1:0:0 "
    "lat:100,10,1:25,28,31:-900000000:900000000:-1:1:0:0 "
    "lon:100,10,1:26,29,32:-1800000000:1800000000:-1:1:0:0 "
    "state:1:5:1:31:4:0:0:0 "
    "alt:1000,500,100:18:-1000000:20000000:9:1:1:0 "
    "speed:100:14:0:1000000:5:0:1:0 "
    "course:200:8:0:35999:-1:0:1:181 "
    "hacc:1000:11:0:1000000:3:0:1:0 "
    "sats:1:7:0:99:4:0:1:0 "
    "battery:1:7:0:100:-1:0:1:0 "
)
