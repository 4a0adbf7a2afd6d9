#include "device.h"

#include "aes128.h"
#include "requests.h"

#include <string.h>

enum { COUNTERS_RESERVED = 64, FIX_INTERVAL_MS = 1000 };
static const int64_t CLOCK_FLOOR_MS = INT64_C(1700000000000); /* an earlier time is that of a clock that was not set */

/* --- sending --------------------------------------------------------------------------------------------------- */

static bool save(device *d) { return d->ports.save(d->ports.context, &d->state); }

/* Take the counter of a frame. Counters are the nonce of the cipher: none may be used twice, so a bound above them is
 * stored before they are used. */
static bool take_counter(device *d, uint32_t *counter)
{
    if (d->counter > PL_COUNTER_MAX)
        return false; /* the hub has to rotate the key */
    if (d->counter == d->state.up_limit) {
        d->state.up_limit += COUNTERS_RESERVED;
        if (!save(d)) {
            d->state.up_limit -= COUNTERS_RESERVED;
            return false;
        }
    }
    *counter = d->counter++;
    return true;
}

/* Seal the frame whose body is d->frame[PL_HEADER] to d->frame[PL_HEADER + len - 1], and send it in this session or the
 * next one. An event is repeated anyway, so it does not wait in the outbox. */
static bool send_body(device *d, uint8_t type, uint32_t counter, size_t len)
{
    if (pl_seal(&d->up, d->frame, sizeof d->frame, type, counter, PL_HEADER + len, false, &len) != PL_OK)
        return false;
    if (type != PL_EVENT)
        outbox_add(&d->out, d->frame, len);
    return !d->connected || d->ports.send(d->ports.context, d->frame, len);
}

bool device_send(device *d, const pl_message *message)
{
    size_t len;
    uint32_t counter;
    return pl_encode(message, d->frame + PL_HEADER, sizeof d->frame - PL_HEADER, &len) == PL_OK &&
           take_counter(d, &counter) && send_body(d, message->type, counter, len);
}

static bool send_hello(device *d)
{
    static const char board[] = "example", firmware[] = "1.0", runtime[] = "C99";
    pl_message message;
    memset(&message, 0, sizeof message);
    message.type = PL_HELLO;
    pl_hello *hello = &message.as.hello;
    hello->boot = d->state.boot;
    hello->schema_hash = PL_SCHEMA_HASH;
    hello->minor = PL_MINOR;
    hello->profiles = PL_HELLO_PROFILES_RICE;
    hello->batch_fixes = BATCH_ROWS;
    memcpy(hello->board.data, board, hello->board.len = sizeof board - 1);
    memcpy(hello->firmware.data, firmware, hello->firmware.len = sizeof firmware - 1);
    memcpy(hello->runtime.data, runtime, hello->runtime.len = sizeof runtime - 1);
    hello->content.len = sizeof hello->content.data;
    return device_send(d, &message);
}

bool device_send_status(device *d, int64_t now_ms)
{
    pl_message message;
    memset(&message, 0, sizeof message);
    message.type = PL_DEVICE_STATUS;
    pl_device_status *status = &message.as.device_status;
    status->uptime_s = (uint32_t)(now_ms / 1000);
    status->gps_mode = PL_DEVICE_STATUS_GPS_MODE_FIX_3D;
    status->gps_sats = PL_DEVICE_STATUS_GPS_SATS_UNKNOWN;
    status->battery_pct = 80;
    status->charge = PL_DEVICE_STATUS_CHARGE_DISCHARGING;
    status->signal_dbm = PL_DEVICE_STATUS_SIGNAL_DBM_UNKNOWN;
    status->temperature_c = PL_DEVICE_STATUS_TEMPERATURE_C_UNKNOWN;
    status->storage_free_pct = PL_DEVICE_STATUS_STORAGE_FREE_PCT_UNKNOWN;
    status->heap_free_kb = PL_DEVICE_STATUS_HEAP_FREE_KB_UNKNOWN;
    status->queue_frames = (uint16_t)d->out.frames;
    status->dropped_frames = d->out.dropped;
    status->reconnects = d->reconnects;
    status->link = d->connected ? PL_DEVICE_STATUS_LINK_UP : PL_DEVICE_STATUS_LINK_SESSION;
    status->fixes = d->fixes;
    return device_send(d, &message);
}

/* --- positions ------------------------------------------------------------------------------------------------- */

bool device_clock_is_set(const device *d) { return d->boot_unix_ms >= CLOCK_FLOOR_MS; }

uint64_t device_unix_ms(const device *d, int64_t now_ms)
{
    return device_clock_is_set(d) ? (uint64_t)(d->boot_unix_ms + now_ms) : 0; /* 0: not known */
}

static int32_t latitude(uint32_t fix) { return 311234500 + 110 * (int32_t)(fix % 600); }

static int32_t longitude(uint32_t fix) { return 1211234500 + 90 * (int32_t)(fix % 600); }

/* Add the position of a walk, in place of a GPS receiver. */
static void add_fix(device *d, int64_t now_ms)
{
    pl_row *row = &d->rows[d->row_count++];
    row->time_ms = (int64_t)device_unix_ms(d, now_ms) / 1000 * 1000;
    row->value[PL_LAT] = latitude(d->fixes);
    row->value[PL_LON] = longitude(d->fixes);
    row->value[PL_STATE] = 3; /* 3D */
    row->value[PL_ALT] = 12000;
    row->value[PL_SPEED] = 1400;
    row->value[PL_COURSE] = 3800;
    row->value[PL_HACC] = 4000;
    row->value[PL_SATS] = 9;
    row->value[PL_BATTERY] = 80;
    d->fixes++;
}

static bool send_batch(device *d)
{
    size_t len;
    uint32_t counter;
    if (!d->row_count)
        return true;
    if (pl_track_encode(d->rows, d->row_count, 6, true, 0, d->frame + PL_HEADER, sizeof d->frame - PL_HEADER, &len) != PL_OK ||
        !take_counter(d, &counter))
        return false;
    d->row_count = 0;
    return send_body(d, PL_POSITION_BATCH, counter, len);
}

bool device_send_positions(device *d, int64_t now_ms)
{
    if (!d->row_count)
        add_fix(d, now_ms);
    return send_batch(d);
}

/* --- events ---------------------------------------------------------------------------------------------------- */

/* Send the event; the next repetition is due some time after the broker's acknowledgement. */
static bool send_event(device *d)
{
    d->next_event_ms = INT64_MAX;
    d->event_unacknowledged = d->connected;
    memcpy(d->frame + PL_HEADER, d->state.event, d->state.event_len);
    return send_body(d, PL_EVENT, d->state.event_counter, d->state.event_len);
}

bool device_raise_sos(device *d, int64_t now_ms)
{
    pl_message message;
    if (d->state.event_len)
        return true; /* the alarm is on its way */
    memset(&message, 0, sizeof message);
    message.type = PL_EVENT;
    pl_event *event = &message.as.event;
    event->event_id = ++d->state.event_id;
    event->kind = PL_EVENT_KIND_SOS;
    event->phase = PL_EVENT_PHASE_RAISED;
    event->ack_wanted = 1;
    event->cause = PL_EVENT_CAUSE_BUTTON;
    event->time_ms = device_unix_ms(d, now_ms);
    event->lat_e7 = latitude(d->fixes);
    event->lon_e7 = longitude(d->fixes);
    event->hacc_m = 4;
    event->fix_age_s = 0;
    event->ref = PL_EVENT_REF_UNKNOWN;
    event->value = PL_EVENT_VALUE_UNKNOWN;
    if (pl_encode(&message, d->state.event, sizeof d->state.event, &d->state.event_len) != PL_OK ||
        !take_counter(d, &d->state.event_counter))
        return false;
    d->state.event_answered = 0;
    d->event_interval_ms = PL_TIMER_EVENT_REPEAT_MS;
    bool stored = save(d); /* an alarm is sent even if it would not survive a power cut */
    return send_event(d) && stored;
}

/* The hub's answer: repeat once a minute from now on, or no more. */
static void take_event_state(device *d, const pl_event_state *answer, int64_t now_ms)
{
    if (!d->state.event_len || answer->event_id != d->state.event_id)
        return;
    if (answer->state == PL_EVENT_STATE_STATE_RESOLVED || answer->state == PL_EVENT_STATE_STATE_FALSE_ALARM)
        d->state.event_len = 0;
    d->state.event_answered = 1;
    d->event_interval_ms = PL_TIMER_EVENT_OPEN_REPEAT_MS;
    d->next_event_ms = now_ms + d->event_interval_ms;
    save(d);
}

static void repeat_event(device *d)
{
    if (!d->state.event_answered) {
        d->event_interval_ms *= 2;
        if (d->event_interval_ms > PL_TIMER_EVENT_REPEAT_MAX_MS)
            d->event_interval_ms = PL_TIMER_EVENT_REPEAT_MAX_MS;
    }
    send_event(d);
}

/* --- key rotation ------------------------------------------------------------------------------------------------ */

/* No frame waits under the old epoch but an open event, which gets a new counter. */
bool device_rotate_key(device *d)
{
    uint32_t old_counter = d->state.event_counter;
    if (d->state.event_len && !take_counter(d, &d->state.event_counter))
        return false;
    d->state.epoch++;
    if (!save(d)) {
        d->state.epoch--;
        d->state.event_counter = old_counter;
        return false;
    }
    return pl_channel_init(&d->up, d->key, d->id, d->id_len, 0, d->state.epoch, aes128) == PL_OK;
}

/* --- receiving ------------------------------------------------------------------------------------------------- */

/* Tell the hub that a frame was refused, if SPEC.md allows an answer. */
static void refuse(device *d, const pl_frame *frame, int reason, int64_t now_ms)
{
    pl_message message;
    if (!pl_may_reject(&d->gate, frame, reason, now_ms))
        return;
    memset(&message, 0, sizeof message);
    message.type = PL_REJECT;
    message.as.reject.refused_counter = frame->counter;
    message.as.reject.message_type = frame->type;
    message.as.reject.reason = (uint8_t)reason;
    device_send(d, &message);
}

void device_receive(device *d, uint8_t *frame, size_t len, int64_t now_ms)
{
    pl_frame parts;
    pl_message message;
    bool stored = true;
    int result = pl_receive(&d->down, frame, len, &parts);
    if (d->state.down_epoch != d->down.epoch || d->state.down_highest != d->down.highest) {
        d->state.down_epoch = d->down.epoch;
        d->state.down_highest = d->down.highest;
        stored = save(d); /* before the frame is acted on: it must not be obeyed again after a power cut */
    }
    if (result == PL_OK)
        result = pl_decode(parts.type, parts.body, parts.body_len, &message);
    if (result != PL_OK) {
        d->refused++;
        refuse(d, &parts, result, now_ms);
        return;
    }
    d->accepted++;
    if (parts.type == PL_EVENT_STATE)
        take_event_state(d, &message.as.event_state, now_ms);
    else if (stored)
        requests_act(d, &message, now_ms);
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */

void device_connected(device *d, int64_t now_ms)
{
    size_t len, at = 0;
    const uint8_t *frame;
    d->connected = true;
    d->reconnects++;
    while ((frame = outbox_next(&d->out, &at, &len)) && d->ports.send(d->ports.context, frame, len))
        ;
    if (d->state.event_len)
        send_event(d);
    requests_run(d, now_ms);
}

void device_disconnected(device *d)
{
    d->connected = false;
    d->next_event_ms = INT64_MAX;
}

void device_acknowledged(device *d, uint32_t counter, int64_t now_ms)
{
    if (d->event_unacknowledged && counter == d->state.event_counter) {
        d->event_unacknowledged = false;
        d->next_event_ms = now_ms + d->event_interval_ms;
    } else {
        outbox_remove(&d->out, counter);
    }
    requests_run(d, now_ms);
}

/* --- time ------------------------------------------------------------------------------------------------------ */

bool device_start(device *d, const device_ports *ports, const counters *state, const uint8_t key[32], const char *id,
                  int64_t boot_unix_ms)
{
    memset(d, 0, sizeof *d);
    d->ports = *ports;
    d->state = *state;
    d->boot_unix_ms = boot_unix_ms;
    d->id_len = strlen(id);
    if (pl_channel_init(&d->up, key, (const uint8_t *)id, d->id_len, 0, state->epoch, aes128) != PL_OK ||
        pl_receiver_init(&d->down, key, (const uint8_t *)id, d->id_len, 1, state->down_epoch, NULL, aes128) != PL_OK)
        return false;
    memcpy(d->key, key, sizeof d->key);
    memcpy(d->id, id, d->id_len);
    d->down.highest = state->down_highest;
    d->counter = state->up_limit; /* some below were perhaps not used: they are lost */
    d->state.boot++;
    d->event_interval_ms = state->event_answered ? PL_TIMER_EVENT_OPEN_REPEAT_MS : PL_TIMER_EVENT_REPEAT_MS;
    d->next_event_ms = INT64_MAX;
    return save(d) && send_hello(d) && device_send_status(d, 0);
}

int64_t device_run(device *d, int64_t now_ms)
{
    if (now_ms >= d->next_fix_ms) {
        d->next_fix_ms = now_ms + FIX_INTERVAL_MS;
        if (device_clock_is_set(d) && d->row_count < BATCH_ROWS)
            add_fix(d, now_ms);
        if (d->row_count == BATCH_ROWS)
            send_batch(d);
    }
    if (d->state.event_len && now_ms >= d->next_event_ms)
        repeat_event(d);
    requests_run(d, now_ms);
    return d->state.event_len && d->next_event_ms < d->next_fix_ms ? d->next_event_ms : d->next_fix_ms;
}
