/* The example device on a pipe: 4 bytes of length, little-endian, and a frame; standard input from the hub, standard
 * output to it. README.md has its arguments. */
#define _POSIX_C_SOURCE 200809L
#include "device.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH_BYTES = 4, EXIT_USAGE = 2, EXIT_DEVICE = 3 };

static int64_t clock_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool write_all(const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = write(STDOUT_FILENO, data, len);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_frame(void *context, const uint8_t *frame, size_t len)
{
    uint8_t packet[LENGTH_BYTES + PL_MAX_FRAME];
    (void)context;
    for (int i = 0; i < LENGTH_BYTES; i++)
        packet[i] = (uint8_t)(len >> 8 * i);
    memcpy(packet + LENGTH_BYTES, frame, len);
    return write_all(packet, LENGTH_BYTES + len);
}

static bool save_counters(void *context, const counters *c)
{
    if (counters_save(context, c))
        return true;
    fprintf(stderr, "error: %s cannot be written; make room, or name another file\n", (const char *)context);
    return false;
}

static bool read_key(const char *path, uint8_t key[32])
{
    unsigned byte;
    size_t n = 0;
    FILE *file = fopen(path, "r");
    while (file && n < 32 && fscanf(file, "%2x", &byte) == 1)
        key[n++] = (uint8_t)byte;
    if (file)
        fclose(file);
    return n == 32;
}

/* Frames from the hub in what was read so far. */
typedef struct {
    uint8_t data[LENGTH_BYTES + PL_MAX_FRAME];
    size_t len;
    uint32_t skip; /* bytes of a frame that is too long */
} inbox;

/* Take a byte; returns the length of the frame at data[LENGTH_BYTES] that it completes, or 0. */
static size_t inbox_add(inbox *in, uint8_t byte)
{
    if (in->skip) {
        in->skip--;
        return 0;
    }
    in->data[in->len++] = byte;
    if (in->len < LENGTH_BYTES)
        return 0;
    uint32_t len = 0;
    for (int i = LENGTH_BYTES; i--;)
        len = len << 8 | in->data[i];
    if (len == 0 || len > PL_MAX_FRAME) {
        in->skip = len;
        in->len = 0;
    } else if (in->len == LENGTH_BYTES + len) {
        in->len = 0;
        return len;
    }
    return 0;
}

/* Whether the SOS button was pressed: its file has appeared. */
static bool take_press(const char *button)
{
    return button && unlink(button) == 0;
}

/* Run until the hub closes the pipe. A second of the device takes 1000 / speed milliseconds. */
static void run(device *d, int speed, const char *button)
{
    static inbox in;
    uint8_t data[4096];
    int64_t start = clock_ms(CLOCK_MONOTONIC);
    for (;;) {
        int64_t now = (clock_ms(CLOCK_MONOTONIC) - start) * speed;
        if (take_press(button))
            device_raise_sos(d, now);
        int64_t wait = (device_run(d, now) - now + speed - 1) / speed;
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        if (poll(&input, 1, (int)wait) <= 0)
            continue;
        ssize_t n = read(STDIN_FILENO, data, sizeof data);
        if (n <= 0)
            return;
        for (ssize_t i = 0; i < n; i++) {
            size_t len = inbox_add(&in, data[i]);
            if (len)
                device_receive(d, in.data + LENGTH_BYTES, len, (clock_ms(CLOCK_MONOTONIC) - start) * speed);
        }
    }
}

int main(int argc, char **argv)
{
    static device d;
    counters state;
    uint8_t key[32];
    int speed = 1;
    const char *button = NULL;
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "--button") == 0 && i + 1 < argc)
            button = argv[++i];
        else if (strcmp(argv[i], "--speed") == 0 && i + 1 < argc)
            speed = atoi(argv[++i]);
        else
            speed = 0;
    }
    if (argc < 4 || speed < 1 || speed > 1000) {
        fprintf(stderr, "usage: %s ID KEY_FILE COUNTERS_FILE [--button FILE] [--speed 1..1000]\n", argv[0]);
        return EXIT_USAGE;
    }
    if (!read_key(argv[2], key)) {
        fprintf(stderr, "error: %s: no key; write 64 hexadecimal digits into it\n", argv[2]);
        return EXIT_USAGE;
    }
    if (!counters_load(argv[3], &state)) {
        fprintf(stderr, "error: %s is damaged, and counters must not be used twice; give the device a new key, then remove "
                        "the file\n", argv[3]);
        return EXIT_DEVICE;
    }
    signal(SIGPIPE, SIG_IGN);
    device_ports ports = {send_frame, save_counters, argv[3]};
    bool started = device_start(&d, &ports, &state, key, argv[1], clock_ms(CLOCK_REALTIME));
    pl_wipe(key, sizeof key);
    if (!started) {
        fprintf(stderr, "error: the device cannot start; is %s an id of 1 to 32 characters?\n", argv[1]);
        return EXIT_DEVICE;
    }
    run(&d, speed, button);
    pl_wipe(&d, sizeof d);
    return 0;
}
