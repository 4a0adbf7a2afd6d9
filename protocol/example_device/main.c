/* The example device on a pipe: packets of a length (4 bytes, little-endian) and a frame; standard input from the hub,
 * standard output to it. docs/guide/validate.md describes the packets that control clock and link. README.md has the
 * arguments. */
#define _POSIX_C_SOURCE 200809L
#include "device.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH_BYTES = 4, TIME_BYTES = 8, EXIT_USAGE = 2, EXIT_DEVICE = 3, UNACKNOWLEDGED_MAX = 512, OUTPUT_BYTES = 65536 };
enum { CUT, RESTORE, HOLD, RELEASE };
static const uint32_t TIME_PACKET = 0xFFFFFFFF, LINK_PACKET = 0xFFFFFFFD;

typedef struct {
    const char *id, *key, *counters, *button, *lose_clock;
    int speed;         /* the device's clock runs so many times as fast */
    bool is_virtual;   /* or as the kit demands */
    int64_t now_ms;    /* virtual time since the start of the process */
    int64_t shown_ms;  /* the last one that was sent */
    int64_t boot_ms;   /* time at which the device was switched on */
    int64_t start_ms, start_unix_ms; /* clocks of the system at the start of the process */
    bool restart;      /* the device wants to be switched off and on */
    bool held;         /* the broker acknowledges nothing */
    size_t unacknowledged_count;
    uint32_t unacknowledged[UNACKNOWLEDGED_MAX]; /* counters of frames of this session */
    size_t output_len;
    uint8_t output[OUTPUT_BYTES]; /* packets that wait for the next virtual time */
    device device;
} host;

/* --- clock ------------------------------------------------------------------------------------------------------- */

static int64_t clock_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Time since the start of the process. */
static int64_t process_ms(const host *h)
{
    return h->is_virtual ? h->now_ms : (clock_ms(CLOCK_MONOTONIC) - h->start_ms) * h->speed;
}

static int64_t device_ms(const host *h) { return process_ms(h) - h->boot_ms; }

/* --- output ------------------------------------------------------------------------------------------------------ */

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

static void put_le(uint8_t *out, int64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static bool send_frame(void *context, const uint8_t *frame, size_t len)
{
    host *h = context;
    uint8_t packet[LENGTH_BYTES + PL_MAX_FRAME];
    if (h->unacknowledged_count == UNACKNOWLEDGED_MAX)
        return false; /* it is in the outbox */
    h->unacknowledged[h->unacknowledged_count++] = frame_counter(frame);
    put_le(packet, (int64_t)len, LENGTH_BYTES);
    memcpy(packet + LENGTH_BYTES, frame, len);
    if (!h->is_virtual)
        return write_all(packet, LENGTH_BYTES + len);
    if (h->output_len + LENGTH_BYTES + len > sizeof h->output)
        return false;
    memcpy(h->output + h->output_len, packet, LENGTH_BYTES + len);
    h->output_len += LENGTH_BYTES + len;
    return true;
}

static void send_time(host *h)
{
    uint8_t packet[LENGTH_BYTES + TIME_BYTES];
    put_le(packet, TIME_PACKET, LENGTH_BYTES);
    put_le(packet + LENGTH_BYTES, h->now_ms, TIME_BYTES);
    write_all(packet, sizeof packet);
    h->shown_ms = h->now_ms;
}

/* Send the first packet that waits, after its time. */
static void send_first_packet(host *h)
{
    size_t len = LENGTH_BYTES + h->output[0] + ((size_t)h->output[1] << 8);
    if (h->now_ms != h->shown_ms)
        send_time(h);
    write_all(h->output, len);
    h->output_len -= len;
    memmove(h->output, h->output + len, h->output_len);
}

/* --- storage ----------------------------------------------------------------------------------------------------- */

static bool save_counters(void *context, const counters *c)
{
    const char *path = ((host *)context)->counters;
    if (counters_save(path, c))
        return true;
    fprintf(stderr, "error: %s cannot be written; make room, or name another file\n", path);
    return false;
}

/* The audit log is the file of counters with ".log" behind its name; the wearer reads standard error. */
static bool audit(void *context, const char *text)
{
    char path[4096];
    const host *h = context;
    fprintf(stderr, "%s\n", text);
    if (snprintf(path, sizeof path, "%s.log", h->counters) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "a");
    if (!file)
        return false;
    bool written = fprintf(file, "%lld %s\n", (long long)device_ms(h), text) > 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    return fclose(file) == 0 && written;
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

/* --- device and link --------------------------------------------------------------------------------------------- */

static void want_restart(void *context) { ((host *)context)->restart = true; }

/* Acknowledge what was sent, unless the broker holds that back. The device may send more meanwhile. */
static void acknowledge(host *h)
{
    if (h->held)
        return;
    for (size_t i = 0; i < h->unacknowledged_count; i++)
        device_acknowledged(&h->device, h->unacknowledged[i], device_ms(h));
    h->unacknowledged_count = 0;
}

/* Switch the device on; returns 0 or the exit code. */
static int boot(host *h)
{
    counters state;
    uint8_t key[32];
    device_ports ports = {send_frame, save_counters, audit, want_restart, h};
    h->restart = false;
    h->unacknowledged_count = 0;
    if (!read_key(h->key, key)) {
        fprintf(stderr, "error: %s: no key; write 64 hexadecimal digits into it\n", h->key);
        return EXIT_USAGE;
    }
    if (!counters_load(h->counters, &state)) {
        fprintf(stderr, "error: %s is damaged, and counters must not be used twice; give the device a new key, then remove "
                        "the file\n", h->counters);
        return EXIT_DEVICE;
    }
    h->boot_ms = process_ms(h);
    bool is_lost = h->lose_clock && unlink(h->lose_clock) == 0;
    bool started = device_start(&h->device, &ports, &state, key, h->id, is_lost ? 0 : h->start_unix_ms + h->boot_ms);
    pl_wipe(key, sizeof key);
    if (!started) {
        fprintf(stderr, "error: the device cannot start; is %s an id of 1 to 32 characters?\n", h->id);
        return EXIT_DEVICE;
    }
    device_connected(&h->device, 0);
    acknowledge(h);
    return 0;
}

static void control_link(host *h, uint8_t action)
{
    if (action == CUT) {
        h->unacknowledged_count = 0;
        device_disconnected(&h->device);
    } else {
        h->held = action == HOLD;
        if (action == RESTORE && !h->device.connected)
            device_connected(&h->device, device_ms(h));
    }
}

/* Let the device do what is due; returns the time of the next call. */
static int64_t run_device(host *h)
{
    if (h->button && unlink(h->button) == 0)
        device_raise_sos(&h->device, device_ms(h));
    int64_t next_ms = device_run(&h->device, device_ms(h)) + h->boot_ms;
    acknowledge(h);
    return next_ms;
}

/* Run until a virtual time, or until the device sends. */
static void run_until(host *h, int64_t target_ms)
{
    while (!h->output_len) {
        int64_t next_ms = run_device(h);
        if (h->output_len || h->now_ms >= target_ms)
            break;
        h->now_ms = next_ms < target_ms ? next_ms : target_ms;
    }
    if (h->output_len && (h->now_ms < target_ms || h->now_ms == h->shown_ms))
        send_first_packet(h);
    else
        send_time(h); /* what is sent at this very time follows the next packet of the kit */
}

/* --- input ------------------------------------------------------------------------------------------------------- */

/* Bytes of packets that were read so far. */
typedef struct {
    uint8_t data[LENGTH_BYTES + PL_MAX_FRAME];
    size_t len;
    uint32_t skip; /* bytes of a frame that is too long */
} inbox;

static int64_t get_le(const uint8_t *data, int bytes)
{
    int64_t value = 0;
    while (bytes--)
        value = value << 8 | data[bytes];
    return value;
}

/* Take a byte; returns whether it completes a packet, whose length and content are in the inbox. */
static bool inbox_add(inbox *in, uint8_t byte, uint32_t *length)
{
    if (in->skip) {
        in->skip--;
        return false;
    }
    in->data[in->len++] = byte;
    if (in->len < LENGTH_BYTES)
        return false;
    *length = (uint32_t)get_le(in->data, LENGTH_BYTES);
    uint32_t size = *length == TIME_PACKET ? TIME_BYTES : *length == LINK_PACKET ? 1 : *length;
    if (size == 0 || size > PL_MAX_FRAME) {
        in->skip = size;
        in->len = 0;
    } else if (in->len == LENGTH_BYTES + size) {
        in->len = 0;
        return true;
    }
    return false;
}

static void take_packet(host *h, uint8_t *content, uint32_t length)
{
    if (length == TIME_PACKET)
        run_until(h, get_le(content, TIME_BYTES));
    else if (length == LINK_PACKET)
        control_link(h, content[0]);
    else if (h->device.connected)
        device_receive(&h->device, content, length, device_ms(h));
    acknowledge(h);
}

/* Run until the hub closes the pipe; returns the exit code. */
static int run(host *h)
{
    static inbox in;
    uint8_t data[4096];
    uint32_t length;
    int code = boot(h);
    while (code == 0) {
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        int64_t wait_ms = h->is_virtual ? 0 : (run_device(h) - process_ms(h) + h->speed - 1) / h->speed;
        if (!h->is_virtual && poll(&input, 1, wait_ms > 0 ? (int)wait_ms : 0) <= 0)
            continue;
        ssize_t n = read(STDIN_FILENO, data, sizeof data);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n && code == 0; i++) {
            if (!inbox_add(&in, data[i], &length))
                continue;
            take_packet(h, in.data + LENGTH_BYTES, length);
            if (h->restart)
                code = boot(h);
        }
    }
    pl_wipe(&h->device, sizeof h->device);
    return code;
}

int main(int argc, char **argv)
{
    static host h;
    h.speed = 1;
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "--virtual") == 0)
            h.is_virtual = true;
        else if (strcmp(argv[i], "--button") == 0 && i + 1 < argc)
            h.button = argv[++i];
        else if (strcmp(argv[i], "--lose-clock") == 0 && i + 1 < argc)
            h.lose_clock = argv[++i];
        else if (strcmp(argv[i], "--speed") == 0 && i + 1 < argc)
            h.speed = atoi(argv[++i]);
        else
            h.speed = 0;
    }
    if (argc < 4 || h.speed < 1 || h.speed > 1000) {
        fprintf(stderr, "usage: %s ID KEY_FILE COUNTERS_FILE [--button FILE] [--lose-clock FILE] [--speed 1..1000 | --virtual]\n",
                argv[0]);
        return EXIT_USAGE;
    }
    h.id = argv[1], h.key = argv[2], h.counters = argv[3];
    h.start_ms = clock_ms(CLOCK_MONOTONIC);
    h.start_unix_ms = clock_ms(CLOCK_REALTIME);
    signal(SIGPIPE, SIG_IGN);
    return run(&h);
}
