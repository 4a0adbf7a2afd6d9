/* libFuzzer target for the C codec: hostile frames with a correct tag, and hostile bytes.
 *
 * Input: 1 byte choice, then a frame without its tag. A decoded frame is encoded and decoded again; both results must be
 * equal. Build and run: make fuzz.
 */
#include "../../protocol/generated/patrolink.c"

#include <stdlib.h>
#include <string.h>

static void same_message(const pl_frame *frame)
{
    static pl_message first, second;
    uint8_t buf[2048];
    size_t n;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    if (pl_decode(frame->type, frame->body, frame->body_len, &first) != PL_OK)
        return;
    if (pl_encode(&first, buf, sizeof buf, &n) != PL_OK || n > frame->body_len || memcmp(buf, frame->body, n) != 0)
        abort();
    if (pl_decode(frame->type, buf, n, &second) != PL_OK || memcmp(&first, &second, sizeof first) != 0)
        abort();
    for (size_t cap = 0; cap < n; cap++)
        if (pl_encode(&first, buf, cap, &n) != PL_ERR_SPACE)
            abort();
}

static void same_rows(const pl_frame *frame, bool rice)
{
    static pl_row first[PL_MAX_BATCH], second[PL_MAX_BATCH];
    static uint8_t buf[16384];
    size_t n = 0, again = 0, count = 0;
    int resolution = 0, other = 0;
    if (pl_track_decode(frame->body, frame->body_len, first, PL_MAX_BATCH, &count, &resolution) != PL_OK)
        return;
    if (count < 1 || count > PL_MAX_BATCH)
        abort();
    /* Times far apart can be decoded but not encoded. */
    if (pl_track_encode(first, count, resolution, rice, 0, buf, sizeof buf, &n) != PL_OK)
        return;
    if (pl_track_decode(buf, n, second, PL_MAX_BATCH, &again, &other) != PL_OK || again != count || other != resolution)
        abort();
    for (size_t i = 0; i < count; i++) {
        if (first[i].time_ms != second[i].time_ms)
            abort();
        for (size_t j = 0; j < PL_COLUMNS - 1; j++)
            if (first[i].value[j] != second[i].value[j])
                abort();
    }
    if (pl_track_encode(first, count, resolution, rice, 0, buf, n / 2, &again) != PL_ERR_SPACE)
        abort();
    if (count > 1 && pl_track_decode(frame->body, frame->body_len, second, count - 1, &again, &other) != PL_ERR_SPACE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[32] = {1, 2, 3}, id[] = "fuzz";
    static uint8_t seen[(PL_REPLAY_WINDOW + 7) / 8];
    pl_channel channel;
    pl_receiver receiver;
    pl_frame frame;
    uint8_t digest[32];
    if (size < 1 || size > PL_MAX_FRAME)
        return 0;
    int direction = data[0] & 1;
    uint32_t epoch = data[0] >> 1 & 1;
    pl_channel_init(&channel, key, id, 4, direction, epoch);
    pl_receiver_init(&receiver, key, id, 4, direction, 0, seen);
    (void)pl_receive(&receiver, data + 1, size - 1, &frame);
    if (size < 1 + PL_HEADER)
        return 0;
    size_t tag = tag_bytes(data[1] & 31);
    uint8_t *genuine = malloc(size - 1 + tag);
    if (!genuine)
        return 0;
    memcpy(genuine, data + 1, size - 1);
    genuine[0] = (uint8_t)(PL_VERSION << 5 | (genuine[0] & 31));
    pl_mac(&channel, genuine, size - 1, digest);
    memcpy(genuine + size - 1, digest, tag);
    if (pl_open(&channel, genuine, size - 1 + tag, &frame) == PL_OK) {
        if (frame.type == PL_POSITION_BATCH)
            same_rows(&frame, data[0] >> 2 & 1);
        else
            same_message(&frame);
        if (pl_receive(&receiver, genuine, size - 1 + tag, &frame) != PL_OK)
            abort();
        if (pl_receive(&receiver, genuine, size - 1 + tag, &frame) == PL_OK)
            abort();
    }
    free(genuine);
    return 0;
}
