/* Which refused frames may be answered with a `reject`. Prints "ok", or the line of the first check that fails. */
#include "patrolink.c"

#include <stdio.h>
#include <string.h>

#define CHECK(condition)                       \
    do {                                       \
        if (!(condition)) {                    \
            printf("line %d fails\n", __LINE__); \
            return 1;                          \
        }                                      \
    } while (0)

static const uint8_t key[32] = {7}, id[] = "vest";

static size_t sealed(uint8_t *buf, int direction, uint32_t epoch, uint8_t type, uint32_t counter, unsigned flags)
{
    pl_channel channel;
    size_t len = 0;
    memset(buf, 0, PL_MAX_FRAME);
    pl_channel_init(&channel, key, id, 4, direction, epoch, NULL);
    seal(&channel, buf, PL_MAX_FRAME, type, counter, PL_HEADER + 4, flags, &len);
    return len;
}

int main(void)
{
    static uint8_t buf[PL_MAX_FRAME], copy[PL_MAX_FRAME], seen[(PL_REPLAY_WINDOW + 7) / 8];
    pl_receiver device, host;
    pl_frame frame;
    pl_message message;
    pl_reject_gate gate = {0, 0}, other = {0, 0};
    pl_receiver_init(&device, key, id, 4, 1, 0, NULL, NULL);
    pl_receiver_init(&host, key, id, 4, 0, 0, seen, NULL);

    /* Not authentic: no length, version, tag or key is answered, nor is a frame of a reserved flag or the wrong phase. */
    memset(&frame, 0xff, sizeof frame);
    CHECK(pl_receive(&device, buf, 3, &frame) == PL_REJECT_LENGTH && !frame.genuine);
    size_t n = sealed(buf, 1, 0, PL_TEXT, 5, 0);
    memcpy(copy, buf, n);
    copy[0] ^= 0x80;
    CHECK(pl_receive(&device, copy, n, &frame) == PL_REJECT_VERSION && !frame.genuine);
    memcpy(copy, buf, n);
    copy[n - 1] ^= 1;
    CHECK(pl_receive(&device, copy, n, &frame) == PL_REJECT_TAG && !frame.genuine);
    CHECK(!pl_may_reject(&gate, &frame, PL_REJECT_TAG, 0));
    n = sealed(copy, 1, 0, PL_TEXT, 6, 1);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_REJECT_CRITICAL && !frame.genuine);
    CHECK(device.highest == -1);

    /* Authentic and refused: type and counter are set, and the counter is taken. */
    n = sealed(copy, 1, 0, PL_EVENT, 7, 0);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_REJECT_TYPE && frame.genuine);
    CHECK(frame.type == PL_EVENT && frame.counter == 7 && device.highest == 7);
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_TYPE, 1000));
    CHECK(!pl_may_reject(&gate, &frame, PL_REJECT_TYPE, 10999));
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_TYPE, 11000));
    n = sealed(copy, 1, 0, PL_TEXT, 8, 0);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_OK && frame.genuine);
    CHECK(pl_decode(frame.type, frame.body, frame.body_len, &message) == PL_REJECT_LENGTH);
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_LENGTH, 30000));

    /* An encrypted frame without a cipher: the counter is taken, and no reason of the table holds. */
    n = sealed(copy, 1, 0, PL_TEXT, 9, 0);
    copy[1] |= PL_FLAG_ENCRYPTED << 4;
    uint8_t digest[32];
    pl_mac(&device.channel, copy, n - PL_TAG_BYTES, digest);
    memcpy(copy + n - PL_TAG_BYTES, digest, PL_TAG_BYTES);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_ERR_CIPHER && frame.genuine && device.highest == 9);
    CHECK(!pl_may_reject(&gate, &frame, PL_ERR_CIPHER, 50000));
    CHECK(pl_seal(&device.channel, copy, sizeof copy, PL_TEXT, 10, PL_HEADER, false, &n) == PL_ERR_CIPHER);

    /* Replays are answered once a minute, a reject never, what a host drops silently never. */
    n = sealed(copy, 1, 0, PL_TEXT, 8, 0);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_REJECT_REPLAY && frame.genuine);
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_REPLAY, 60000));
    CHECK(!pl_may_reject(&gate, &frame, PL_REJECT_REPLAY, 119999));
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_TYPE, 70000));
    CHECK(pl_may_reject(&gate, &frame, PL_REJECT_REPLAY, 120000));
    n = sealed(copy, 1, 0, PL_REJECT, 11, 0);
    CHECK(pl_receive(&device, copy, n, &frame) == PL_OK);
    CHECK(!pl_may_reject(&other, &frame, PL_REJECT_LENGTH, 0));
    n = sealed(copy, 0, 0, PL_DEVICE_STATUS, 1, 0);
    CHECK(pl_receive(&host, copy, n, &frame) == PL_OK);
    CHECK(pl_receive(&host, copy, n, &frame) == PL_REPEATED && !pl_may_reject(&other, &frame, PL_REPEATED, 0));

    /* A frame of the next epoch that is refused begins that epoch, if it is authentic. */
    n = sealed(copy, 0, 1, PL_COMMAND, 0, 0);
    CHECK(pl_receive(&host, copy, n, &frame) == PL_REJECT_TYPE && frame.genuine && host.epoch == 1);
    n = sealed(copy, 0, 0, PL_DEVICE_STATUS, 2, 0);
    CHECK(pl_receive(&host, copy, n, &frame) == PL_REJECT_TAG && !frame.genuine);
    puts("ok");
    return 0;
}
