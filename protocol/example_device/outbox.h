/* Frames that the broker has not acknowledged yet, oldest first. They are in memory: a power cut loses them. Write them to
 * your flash if that must not be. */
#ifndef OUTBOX_H
#define OUTBOX_H

#include "patrolink.h"

enum { OUTBOX_BYTES = 4096 };

typedef struct {
    size_t len;
    uint32_t frames, dropped; /* frames in it; frames that were removed to make room, since boot */
    uint8_t data[OUTBOX_BYTES]; /* length (2 bytes) and frame, repeated */
} outbox;

/* Append a frame. If there is no room, the oldest positions are removed first: the newest ones count. */
void outbox_add(outbox *o, const uint8_t *frame, size_t len);

/* Remove the frame with this counter: the broker has acknowledged it. */
void outbox_remove(outbox *o, uint32_t counter);

/* Return the frame at *at, which begins with 0, and move *at to the next one; NULL after the last one. */
const uint8_t *outbox_next(const outbox *o, size_t *at, size_t *len);

/* Counter of a frame. */
uint32_t frame_counter(const uint8_t *frame);

#endif
