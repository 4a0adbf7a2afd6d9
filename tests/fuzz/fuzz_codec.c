/* libFuzzer target for the C codec: hostile frames with a correct tag, hostile bytes, hostile rows and serial lines.
 *
 * Input: 1 byte choice (bit 0 direction, bit 1 epoch, bit 2 rice, bits 3 and 4: 0 a frame, 8 rows to encode, 16 bytes of a
 * serial line), then a frame in clear without its tag, rows, or bytes. What is decoded is encoded and decoded again; both
 * results must be equal. Build and run: make fuzz.
 */
#include "../../protocol/generated/patrolink.c"
#include "../../protocol/vectors/aes128.h"

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

/* Encode any rows; what was accepted is decoded, and encoded to the same bytes. */
static void any_rows(const uint8_t *data, size_t size, bool rice)
{
    static pl_row rows[PL_MAX_BATCH], decoded[PL_MAX_BATCH];
    static uint8_t buf[16384], again[16384];
    size_t count = size / sizeof *rows, len, again_len, decoded_count;
    int resolution = 4 + (int)(size % 5), decoded_resolution;
    memcpy(rows, data, count * sizeof *rows);
    if (pl_track_encode(rows, count, resolution, rice, (unsigned)(size % 64), buf, sizeof buf, &len) != PL_OK)
        return;
    if (pl_track_decode(buf, len, decoded, PL_MAX_BATCH, &decoded_count, &decoded_resolution) != PL_OK)
        abort();
    if (decoded_count != count || decoded_resolution != resolution)
        abort();
    if (pl_track_encode(decoded, count, resolution, rice, 0, again, sizeof again, &again_len) != PL_OK || again_len != len ||
        memcmp(buf, again, len) != 0)
        abort();
}

/* A frame is found behind any bytes of a line. */
static void any_line(const uint8_t *data, size_t size)
{
    static uint8_t packet[PL_MAX_PACKET];
    pl_unpacker unpacker;
    size_t len;
    memset(&unpacker, 0, sizeof unpacker);
    for (size_t i = 0; i < size; i++)
        (void)pl_unpack(&unpacker, data[i]);
    (void)pl_unpack(&unpacker, 0);
    if (pl_packet(data, size, packet, sizeof packet, &len) != PL_OK || len > sizeof packet)
        abort();
    for (size_t i = 0; i + 1 < len; i++)
        if (packet[i] == 0 || pl_unpack(&unpacker, packet[i]) != 0)
            abort();
    if (size && (pl_unpack(&unpacker, 0) != (int)size || memcmp(unpacker.data, data, size) != 0))
        abort();
}

static void any_frame(const uint8_t *data, size_t size)
{
    static const uint8_t key[32] = {1, 2, 3}, id[] = "fuzz";
    static uint8_t seen[(PL_REPLAY_WINDOW + 7) / 8];
    pl_channel channel;
    pl_receiver receiver;
    pl_frame frame;
    uint8_t digest[32], copy[PL_MAX_FRAME];
    int direction = data[0] & 1;
    uint32_t epoch = data[0] >> 1 & 1;
    pl_channel_init(&channel, key, id, 4, direction, epoch, aes128);
    pl_receiver_init(&receiver, key, id, 4, direction, 0, seen, aes128);
    memcpy(copy, data + 1, size - 1);
    if (pl_receive(&receiver, copy, size - 1, &frame) == PL_OK || frame.genuine)
        abort(); /* the tag was not found by chance */
    if (size < 1 + PL_HEADER)
        return;
    size_t end = size - 1, tag = tag_bytes(data[1] & 31);
    uint8_t *genuine = malloc(end + tag), *again = malloc(end + tag);
    if (!genuine || !again)
        abort();
    memcpy(genuine, data + 1, end);
    genuine[0] = (uint8_t)(PL_VERSION << 5 | (genuine[0] & 31));
    if (genuine[1] >> 4 & PL_FLAG_ENCRYPTED)
        apply_cipher(&channel, genuine, end);
    pl_mac(&channel, genuine, end, digest);
    memcpy(genuine + end, digest, tag);
    memcpy(again, genuine, end + tag);
    bool opened = pl_open(&channel, genuine, end + tag, &frame) == PL_OK, is_right = frame.genuine;
    if (opened && (!is_right || memcmp(genuine + 1, data + 2, end - 1) != 0))
        abort();
    if (opened && frame.type == PL_POSITION_BATCH)
        same_rows(&frame, data[0] >> 2 & 1);
    else if (opened)
        same_message(&frame);
    memcpy(genuine, again, end + tag);
    if ((pl_receive(&receiver, genuine, end + tag, &frame) == PL_OK) != opened || frame.genuine != is_right)
        abort();
    if (pl_receive(&receiver, again, end + tag, &frame) == PL_OK) /* its counter is taken, whatever the frame holds */
        abort();
    free(genuine);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > PL_MAX_FRAME)
        return 0;
    if (data[0] & 16)
        any_line(data + 1, size - 1);
    else if (data[0] & 8)
        any_rows(data + 1, size - 1, data[0] >> 2 & 1);
    else
        any_frame(data, size);
    return 0;
}
