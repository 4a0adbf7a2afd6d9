/* Runs the vectors through the C codec: one request per line on standard input, one answer per line in JSON.
 *
 *   F key id direction epoch frame      {"reject": …} or {"type", "counter", "extensions", "message", "again"};
 *                                       "again" is the decoded message, encoded again
 *   R key id direction epoch            creates a receiver for the following steps; key - : unknown
 *   S frame                             {"step": "accepted" | "repeated" | reason}
 *   V                                   {"protocol", "codec", "rice"}
 *
 * key and frame are hexadecimal; - is an empty frame.
 *   cc -std=c99 -o check check.c
 */
#define PATROLINK_NAMES
#include "../generated/patrolink.c"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const reasons[] = {"", PL_REASONS};

static size_t unhex(const char *text, uint8_t *out, size_t cap)
{
    size_t n = 0;
    for (; text[0] && text[1] && text[0] != '-' && n < cap; text += 2) {
        char pair[3] = {text[0], text[1], 0};
        out[n++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

static void hex(const uint8_t *data, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++)
        printf("%02x", data[i]);
    putchar('"');
}

static void text(const uint8_t *data, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++)
        if (data[i] < 0x20 || data[i] == '"' || data[i] == '\\' || data[i] == 0x7f)
            printf("\\u%04x", data[i]);
        else
            putchar(data[i]);
    putchar('"');
}

static void reject(int reason) { printf("{\"reject\": \"%s\"}\n", reason > 0 ? reasons[reason] : "error"); }

static void print_message(const pl_message *message)
{
    const message_rule *rule = rule_of(message->type);
    printf("{\"message\": \"%s\"", rule->name);
    for (const field_rule *f = rule->fields; f < rule->fields + rule->count; f++) {
        const uint8_t *member = (const uint8_t *)message + f->offset;
        printf(", \"%s\": ", f->name);
        if (f->kind == PL_STR)
            text(member + 1, load_length(member, f));
        else if (f->kind == PL_BYTES)
            hex(member + f->size, load_length(member, f));
        else if (limits[f->limit].has_unknown && load(member, f->kind) == limits[f->limit].unknown)
            printf("null");
        else if (f->kind & 1)
            printf("%" PRId64, (int64_t)load(member, f->kind));
        else
            printf("%" PRIu64, load(member, f->kind));
    }
    putchar('}');
}

static void print_rows(const pl_row *rows, size_t n, int resolution)
{
    printf("{\"message\": \"position_batch\", \"resolution\": %d, \"rows\": [", resolution);
    for (size_t i = 0; i < n; i++) {
        printf("%s[%" PRId64, i ? ", " : "", rows[i].time_ms);
        for (size_t j = 0; j < PL_COLUMNS - 1; j++)
            if (rows[i].value[j] == PL_UNKNOWN)
                printf(", null");
            else
                printf(", %" PRId32, rows[i].value[j]);
        putchar(']');
    }
    printf("]}");
}

/* The contents of the last frame. */
static pl_row rows[PL_MAX_BATCH];
static pl_message message;
static size_t count;
static int resolution;

static int decode_body(const pl_frame *frame)
{
    if (frame->type == PL_POSITION_BATCH)
        return pl_track_decode(frame->body, frame->body_len, rows, PL_MAX_BATCH, &count, &resolution);
    return pl_decode(frame->type, frame->body, frame->body_len, &message);
}

static void check_frame(const pl_channel *channel, const uint8_t *data, size_t len)
{
    uint8_t again[4096];
    pl_frame frame;
    size_t n = 0;
    int result = pl_open(channel, data, len, &frame);
    bool batch = result == PL_OK && frame.type == PL_POSITION_BATCH;
    if (result == PL_OK)
        result = decode_body(&frame);
    if (result != PL_OK) {
        reject(result);
        return;
    }
    printf("{\"type\": %d, \"counter\": %" PRIu32 ", \"extensions\": [", frame.type, frame.counter);
    for (size_t at = 0; at < frame.tail_len; at += 2 + frame.tail[at + 1]) {
        printf("%s[%d, ", at ? ", " : "", frame.tail[at] & 127);
        hex(frame.tail + at + 2, frame.tail[at + 1]);
        putchar(']');
    }
    printf("], \"message\": ");
    if (batch)
        print_rows(rows, count, resolution);
    else
        print_message(&message);
    result = batch ? pl_track_encode(rows, count, resolution, true, 0, again + PL_HEADER, sizeof again - PL_HEADER, &n)
                   : pl_encode(&message, again + PL_HEADER, sizeof again - PL_HEADER, &n);
    if (result == PL_OK)
        result = pl_seal(channel, again, sizeof again, frame.type, frame.counter, PL_HEADER + n, false, &n);
    printf(", \"again\": ");
    hex(again, result == PL_OK ? n : 0);
    printf("}\n");
}

int main(void)
{
    static char line[16384], key_text[128], id[64], data_text[8192];
    static uint8_t seen[(PL_REPLAY_WINDOW + 7) / 8];
    pl_receiver receiver;
    bool known = false;
    while (fgets(line, sizeof line, stdin)) {
        uint8_t key[32] = {0}, data[4096];
        int direction = 0;
        uint32_t epoch = 0;
        if (sscanf(line, "F %127s %63s %d %" SCNu32 " %8191s", key_text, id, &direction, &epoch, data_text) == 5) {
            pl_channel channel;
            unhex(key_text, key, sizeof key);
            if (pl_channel_init(&channel, key, (const uint8_t *)id, strlen(id), direction, epoch) != PL_OK)
                return 2;
            check_frame(&channel, data, unhex(data_text, data, sizeof data));
        } else if (sscanf(line, "R %127s %63s %d %" SCNu32, key_text, id, &direction, &epoch) == 4) {
            known = unhex(key_text, key, sizeof key) == sizeof key;
            if (pl_receiver_init(&receiver, key, (const uint8_t *)id, strlen(id), direction, epoch, seen) != PL_OK)
                return 2;
        } else if (sscanf(line, "S %8191s", data_text) == 1) {
            pl_frame frame;
            size_t n = unhex(data_text, data, sizeof data);
            int result = known ? pl_receive(&receiver, data, n, &frame) : PL_REJECT_KEY;
            if (result == PL_OK)
                result = decode_body(&frame);
            printf("{\"step\": \"%s\"}\n", result == PL_OK ? "accepted" : result == PL_REPEATED ? "repeated" : reasons[result]);
        } else if (strcmp(line, "V\n") == 0) {
            printf("{\"protocol\": \"1.0\", \"codec\": \"patrolink.c\", \"rice\": true}\n");
        } else {
            fprintf(stderr, "not a request: %s", line);
            return 2;
        }
        fflush(stdout);
    }
    return 0;
}
