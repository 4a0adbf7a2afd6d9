#include "outbox.h"

#include <string.h>

enum { LENGTH_BYTES = 2 };

uint32_t frame_counter(const uint8_t *frame)
{
    uint32_t word = (uint32_t)frame[1] << 24 | (uint32_t)frame[2] << 16 | (uint32_t)frame[3] << 8 | frame[4];
    return word & PL_COUNTER_MAX;
}

const uint8_t *outbox_next(const outbox *o, size_t *at, size_t *len)
{
    if (*at >= o->len)
        return NULL;
    const uint8_t *frame = o->data + *at + LENGTH_BYTES;
    *len = (size_t)(o->data[*at] << 8 | o->data[*at + 1]);
    *at += LENGTH_BYTES + *len;
    return frame;
}

/* Remove the record between two offsets. */
static void remove_record(outbox *o, size_t begin, size_t end)
{
    memmove(o->data + begin, o->data + end, o->len - end);
    o->len -= end - begin;
    o->frames--;
}

void outbox_remove(outbox *o, uint32_t counter)
{
    size_t len;
    const uint8_t *frame;
    for (size_t begin = 0, end = 0; (frame = outbox_next(o, &end, &len)); begin = end) {
        if (frame_counter(frame) == counter) {
            remove_record(o, begin, end);
            return;
        }
    }
}

/* Remove the oldest positions, or without any the oldest frame. */
static void drop_oldest(outbox *o)
{
    size_t len, begin = 0, end = 0;
    const uint8_t *frame;
    while ((frame = outbox_next(o, &end, &len)) && (frame[0] & 31) != PL_POSITION_BATCH)
        begin = end;
    if (!frame)
        begin = end = 0, outbox_next(o, &end, &len);
    remove_record(o, begin, end);
    o->dropped++;
}

void outbox_add(outbox *o, const uint8_t *frame, size_t len)
{
    while (o->len + LENGTH_BYTES + len > sizeof o->data)
        drop_oldest(o);
    o->data[o->len] = (uint8_t)(len >> 8);
    o->data[o->len + 1] = (uint8_t)len;
    memcpy(o->data + o->len + LENGTH_BYTES, frame, len);
    o->len += LENGTH_BYTES + len;
    o->frames++;
}
