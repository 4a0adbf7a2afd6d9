/* Looks for secrets that the C codec leaves on the stack, in a channel and in a receiver.
 *
 * The codec runs on a stack of its own, which is searched afterwards. Prints one line for each secret that is found, then
 * the bytes of stack that pl_track_encode used.
 */
#define _XOPEN_SOURCE 700
#include "patrolink.c"

#include <stdio.h>
#include <string.h>
#include <ucontext.h>

enum { STACK = 65536, FILL = 0xa5, WINDOW = 8 };

static uint8_t stack[STACK];
static ucontext_t caller, callee;
static const uint8_t key[32] = {0x9c, 0x11, 0x62, 0xe7, 0x5a, 0xf0, 0x3d, 0x84, 0x21, 0xbb, 0x76, 0x48, 0xc9, 0x0e, 0xd2, 0x97,
                                0x35, 0x6f, 0xa8, 0x13, 0xfe, 0x40, 0x8b, 0xd5, 0x69, 0x2a, 0xb4, 0x07, 0xec, 0x51, 0x9f, 0x78};
static const uint8_t id[] = "probe";
static uint8_t frame[PL_MAX_FRAME], next_frame[PL_MAX_FRAME], seen[(PL_REPLAY_WINDOW + 7) / 8], body[PL_MAX_FRAME];
static size_t frame_len, next_len;
static pl_channel channel;
static pl_receiver receiver;
static pl_row rows[PL_MAX_BATCH];
static int failed;

/* In place of AES, whose leftovers are not those of the codec. */
static void no_cipher(const uint8_t of[16], const uint8_t in[16], uint8_t out[16])
{
    (void)of;
    memcpy(out, in, 16);
}

static void use_keys(void)
{
    pl_frame out;
    failed |= pl_channel_init(&channel, key, id, sizeof id - 1, 0, 0, no_cipher) != PL_OK;
    failed |= pl_seal(&channel, frame, sizeof frame, PL_EVENT, 1, PL_HEADER + 20, false, &frame_len) != PL_OK;
    failed |= pl_receiver_init(&receiver, key, id, sizeof id - 1, 0, 0, seen, no_cipher) != PL_OK;
    failed |= pl_receive(&receiver, frame, frame_len, &out) != PL_OK;
    failed |= pl_receive(&receiver, next_frame, next_len, &out) != PL_OK;
    pl_wipe(&channel, sizeof channel);
    pl_wipe(&receiver, sizeof receiver);
}

static void encode(void)
{
    size_t len;
    failed |= pl_track_encode(rows, 40, 7, true, 0, body, sizeof body, &len) != PL_OK;
}

static void run(void (*function)(void))
{
    memset(stack, FILL, sizeof stack);
    getcontext(&callee);
    callee.uc_stack.ss_sp = stack;
    callee.uc_stack.ss_size = sizeof stack;
    callee.uc_link = &caller;
    makecontext(&callee, function, 0);
    swapcontext(&caller, &callee);
}

static bool holds(const void *memory, size_t len, const void *secret, size_t secret_len)
{
    for (size_t i = 0; i + WINDOW <= len; i++)
        for (size_t j = 0; j + WINDOW <= secret_len; j++)
            if (memcmp((const uint8_t *)memory + i, (const uint8_t *)secret + j, WINDOW) == 0)
                return true;
    return false;
}

static void search(const char *name, const void *secret, size_t len)
{
    if (holds(stack, sizeof stack, secret, len))
        printf("%s on the stack\n", name);
    if (holds(&channel, sizeof channel, secret, len) || holds(&receiver, sizeof receiver, secret, len))
        printf("%s in a wiped structure\n", name);
}

int main(void)
{
    static pl_channel of_device, of_epoch[2];
    static uint8_t padded[64], words[32];
    set_key(&of_device, key);
    for (uint32_t epoch = 0; epoch < 2; epoch++)
        pl_channel_init(&of_epoch[epoch], key, id, sizeof id - 1, 0, epoch, no_cipher);
    pl_seal(&of_epoch[1], next_frame, sizeof next_frame, PL_EVENT, 1, PL_HEADER + 20, false, &next_len);
    run(use_keys);
    search("device key", key, sizeof key);
    for (int pad = 0x36; pad <= 0x5c; pad += 0x5c - 0x36) {
        for (size_t i = 0; i < sizeof padded; i++)
            padded[i] = (uint8_t)((i < 32 ? key[i] : 0) ^ pad);
        search("padded device key", padded, 32);
        for (size_t i = 0; i < sizeof words; i++)
            words[i] = padded[i ^ 3]; /* as 32-bit words of a little-endian machine */
        search("words of the padded device key", words, sizeof words);
    }
    search("state of the device key", of_device.inner, sizeof of_device.inner);
    search("outer state of the device key", of_device.outer, sizeof of_device.outer);
    for (int epoch = 0; epoch < 2; epoch++) {
        search("state of an epoch's key", of_epoch[epoch].inner, sizeof of_epoch[epoch].inner);
        search("cipher key of an epoch", of_epoch[epoch].cipher_key, sizeof of_epoch[epoch].cipher_key);
        search("outer state of an epoch's key", of_epoch[epoch].outer, sizeof of_epoch[epoch].outer);
    }
    for (size_t i = 0; i < 40; i++) {
        rows[i].time_ms = 1700000000000 + (int64_t)(i * (i % 3) * 1000);
        for (size_t j = 0; j < PL_COLUMNS - 1; j++)
            rows[i].value[j] = (int32_t)(i * i * 7 % 90);
        rows[i].value[PL_STATE] = 3;
    }
    run(encode);
    size_t unused = 0;
    while (unused < sizeof stack && stack[unused] == FILL)
        unused++;
    printf("%zu\n", sizeof stack - unused);
    return failed;
}
