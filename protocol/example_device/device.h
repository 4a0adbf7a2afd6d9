/* Behaviour of the example device: what it sends, and what it does with frames from the hub. No clock, no input or
 * output: the caller passes times, frames and some functions. Times are milliseconds of a clock that does not go back. */
#ifndef DEVICE_H
#define DEVICE_H

#include "counters.h"
#include "outbox.h"

enum { BATCH_ROWS = 10 };

typedef struct {
    bool (*send)(void *context, const uint8_t *frame, size_t len); /* to the broker; called during a session only */
    bool (*save)(void *context, const counters *c);
    bool (*audit)(void *context, const char *text); /* append to the audit log, and show to the wearer */
    void (*restart)(void *context); /* as after a loss of power, when the call of the device has returned */
    void *context;
} device_ports;

typedef struct {
    device_ports ports;
    counters state;
    outbox out;
    pl_channel up;
    pl_receiver down;
    pl_reject_gate gate;
    uint8_t key[32], id[32];
    size_t id_len;
    int64_t boot_unix_ms; /* unix time at time 0 of the caller's clock; below CLOCK_FLOOR_MS: not known */
    uint32_t counter;     /* of the next frame to the hub */
    bool connected;       /* there is a session with the broker */
    uint16_t reconnects;
    uint32_t accepted, refused; /* frames from the hub */
    int64_t next_fix_ms, next_event_ms, event_interval_ms;
    bool event_unacknowledged; /* the broker has not acknowledged the event's frame */
    bool rotating;             /* waits for acknowledgements before it uses the next key */
    uint32_t rotation_id;      /* command that demands this */
    int64_t certify_end_ms;    /* end of the certification mode; 0: not in it */
    uint32_t firmware_id;      /* last firmware command, and why it was refused */
    uint8_t firmware_reason;
    size_t row_count;
    uint32_t fixes;
    pl_row rows[BATCH_ROWS];
    uint8_t frame[PL_MAX_FRAME];
} device;

/* Begin a boot at time 0. `state` is what was stored. False if the counters of this boot cannot be stored; the device must
 * not send then. */
bool device_start(device *d, const device_ports *ports, const counters *state, const uint8_t key[32], const char *id,
                  int64_t boot_unix_ms);

/* A session with the broker has begun: sends what waits, and an event that is still open. */
void device_connected(device *d, int64_t now_ms);

/* The session has ended. */
void device_disconnected(device *d);

/* The broker has acknowledged the frame with this counter. */
void device_acknowledged(device *d, uint32_t counter, int64_t now_ms);

/* Raise an SOS, unless one is open. It is repeated until the hub closes it. */
bool device_raise_sos(device *d, int64_t now_ms);

/* Take a frame from the hub. It is changed. */
void device_receive(device *d, uint8_t *frame, size_t len, int64_t now_ms);

/* Do what is due; returns the time of the next call. */
int64_t device_run(device *d, int64_t now_ms);

/* --- used by requests.c ------------------------------------------------------------------------------------------ */

bool device_send(device *d, const pl_message *message);
bool device_send_status(device *d, int64_t now_ms);
bool device_send_positions(device *d, int64_t now_ms); /* at least the present one */
bool device_clock_is_set(const device *d);
uint64_t device_unix_ms(const device *d, int64_t now_ms); /* 0: not known */
bool device_rotate_key(device *d);                        /* to the next epoch */

#endif
