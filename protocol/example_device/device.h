/* Behaviour of the example device: what it sends, and what it does with frames from the hub. No clock, no input or
 * output: the caller passes the time, frames and two functions. */
#ifndef DEVICE_H
#define DEVICE_H

#include "counters.h"

enum { BATCH_ROWS = 10 };

typedef struct {
    bool (*send)(void *context, const uint8_t *frame, size_t len);
    bool (*save)(void *context, const counters *c);
    void *context;
} device_ports;

typedef struct {
    device_ports ports;
    counters state;
    pl_channel up;
    pl_receiver down;
    pl_reject_gate gate;
    uint8_t key[32], id[32];
    size_t id_len;
    int64_t boot_unix_ms; /* unix time at time 0 of the caller's clock; below CLOCK_FLOOR_MS: not known */
    uint32_t counter;     /* of the next frame to the hub */
    int64_t next_fix_ms, next_event_ms, event_interval_ms;
    size_t row_count;
    uint32_t fixes;
    pl_row rows[BATCH_ROWS];
    uint8_t frame[PL_MAX_FRAME];
} device;

/* Begin a boot: sends hello and an event that is still open. `state` is what was stored. False if the counters of this
 * boot cannot be stored; the device must not send then. */
bool device_start(device *d, const device_ports *ports, const counters *state, const uint8_t key[32], const char *id,
                  int64_t boot_unix_ms);

/* Raise an SOS at a time of the caller's clock, unless one is open. It is repeated until the hub closes it. */
bool device_raise_sos(device *d, int64_t now_ms);

/* Take a frame from the hub. It is changed. */
void device_receive(device *d, uint8_t *frame, size_t len, int64_t now_ms);

/* Do what is due; returns the time of the next call. */
int64_t device_run(device *d, int64_t now_ms);

#endif
