/* Runs the C codec on a pipe: one request per line on standard input, one answer per line in JSON. README.md of this
 * folder describes the requests.
 *
 *   cc -std=c99 -o check check.c
 */
#define PATROLINK_NAMES
#include "../generated/patrolink.c"

#include "aes128.h"
#include "json_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 1 << 17 };

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

static const char *reason_of(int result)
{
    return result > 0 ? reasons[result] : result == PL_ERR_RANGE ? "range" : result == PL_ERR_SPACE ? "length" : "error";
}

static void reject(int result) { printf("{\"reject\": \"%s\"}\n", reason_of(result)); }

/* Print a frame that was encoded, or why it could not be. */
static void answer(const char *name, const uint8_t *data, size_t n, int result)
{
    if (result != PL_OK) {
        reject(result);
        return;
    }
    printf("{\"%s\": ", name);
    hex(data, n);
    printf("}\n");
}

/* --- decoding ------------------------------------------------------------------------------------------------ */

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

/* Write the body of the last frame at buf[PL_HEADER]; *end is the place after it. */
static int encode_body(uint8_t type, uint8_t *buf, size_t cap, size_t *end)
{
    int result = type == PL_POSITION_BATCH
                     ? pl_track_encode(rows, count, resolution, true, 0, buf + PL_HEADER, cap - PL_HEADER, end)
                     : pl_encode(&message, buf + PL_HEADER, cap - PL_HEADER, end);
    *end += PL_HEADER;
    return result;
}

static void check_frame(const pl_channel *channel, uint8_t *data, size_t len)
{
    uint8_t again[4096];
    pl_frame frame;
    size_t n = 0;
    unsigned encrypted = len > 1 ? data[1] >> 4 & PL_FLAG_ENCRYPTED : 0;
    int result = pl_open(channel, data, len, &frame);
    if (result == PL_OK)
        result = decode_body(&frame);
    if (result != PL_OK) {
        reject(result);
        return;
    }
    printf("{\"type\": %d, \"counter\": %" PRIu32 ", \"extensions\": [", frame.type, frame.counter);
    for (size_t at = 0; at < frame.tail_len; at += 2u + frame.tail[at + 1]) {
        printf("%s[%d, ", at ? ", " : "", frame.tail[at] & 127);
        hex(frame.tail + at + 2, frame.tail[at + 1]);
        putchar(']');
    }
    printf("], \"message\": ");
    if (frame.type == PL_POSITION_BATCH)
        print_rows(rows, count, resolution);
    else
        print_message(&message);
    result = encode_body(frame.type, again, sizeof again, &n);
    if (result == PL_OK)
        result = seal(channel, again, sizeof again, frame.type, frame.counter, n, encrypted, &n);
    printf(", \"again\": ");
    hex(again, result == PL_OK ? n : 0);
    printf("}\n");
}

/* --- encoding ------------------------------------------------------------------------------------------------ */

/* Read a value of an integer of a message or row; PL_ERR_RANGE if it does not fit. */
static int read_integer(json_reader *r, uint8_t kind, uint8_t *member)
{
    uint64_t v;
    bool negative, fits = json_integer(r, &v, &negative);
    if (!fits || (negative && v && (!(kind & 1) || v > (uint64_t)1 << 63)) || (!negative && kind & 1 && v >> 63))
        return PL_ERR_RANGE;
    v = negative ? ~v + 1 : v;
    store(member, kind, v);
    return load(member, kind) == v ? PL_OK : PL_ERR_RANGE;
}

static int read_field(json_reader *r, const field_rule *f)
{
    static uint8_t buf[LINE];
    uint8_t *member = (uint8_t *)&message + f->offset;
    const limit_rule *limit = &limits[f->limit];
    if (f->kind != PL_STR && f->kind != PL_BYTES) {
        if (!json_null(r))
            return read_integer(r, f->kind, member);
        store(member, f->kind, limit->unknown);
        return limit->has_unknown ? PL_OK : PL_ERR_RANGE;
    }
    size_t n = json_string(r, buf, sizeof buf - 1);
    buf[n < sizeof buf ? n : sizeof buf - 1] = 0;
    if (f->kind == PL_BYTES)
        n = unhex((const char *)buf, buf, sizeof buf);
    if (n > limit->high)
        return PL_ERR_RANGE;
    store(member, f->size == 1 ? PL_U8 : PL_U16, n);
    memcpy(member + f->size, buf, n);
    return PL_OK;
}

static int read_rows(json_reader *r)
{
    int result = PL_OK;
    json_expect(r, '[');
    for (count = 0; json_more(r, count, ']'); count++) {
        pl_row ignored, *row = count < PL_MAX_BATCH ? &rows[count] : &ignored;
        json_expect(r, '[');
        if (read_integer(r, PL_I64, (uint8_t *)&row->time_ms) != PL_OK)
            result = PL_ERR_RANGE;
        for (size_t j = 0; j < PL_COLUMNS - 1; j++) {
            json_expect(r, ',');
            if (json_null(r))
                row->value[j] = PL_UNKNOWN;
            else if (read_integer(r, PL_I32, (uint8_t *)&row->value[j]) != PL_OK)
                result = PL_ERR_RANGE;
        }
        json_expect(r, ']');
    }
    return result;
}

/* Append the tail [[type, "hex"], …] at buf[*end]. */
static int read_tail(json_reader *r, uint8_t *buf, size_t cap, size_t *end)
{
    size_t start = *end, n = 0;
    uint8_t type;
    char value[1024];
    json_expect(r, '[');
    for (; json_more(r, n, ']'); n++) {
        json_expect(r, '[');
        int result = read_integer(r, PL_U8, &type);
        json_expect(r, ',');
        size_t len = json_string(r, (uint8_t *)value, sizeof value - 1);
        json_expect(r, ']');
        if (result != PL_OK || len > 510 || *end + 2 + len / 2 + 1 > cap)
            return PL_ERR_RANGE;
        value[len] = 0;
        buf[(*end)++] = type;
        buf[(*end)++] = (uint8_t)(len / 2);
        *end += unhex(value, buf + *end, len / 2);
    }
    if (*end - start > 255)
        return PL_ERR_RANGE;
    buf[*end] = (uint8_t)(*end - start);
    ++*end;
    return PL_OK;
}

/* Read a message object; *extensions is the value of its member `extensions`. */
static int read_message(json_reader *r, uint8_t type, json_reader *extensions)
{
    const message_rule *rule = rule_of(type);
    size_t known = 0;
    int result = rule || type == PL_POSITION_BATCH ? PL_OK : PL_REJECT_TYPE;
    memset(&message, 0, sizeof message);
    message.type = type;
    json_expect(r, '{');
    for (size_t n = 0; result == PL_OK && json_more(r, n, '}'); n++) {
        char name[64] = {0};
        json_string(r, (uint8_t *)name, sizeof name - 1);
        json_expect(r, ':');
        const field_rule *f = rule ? rule->fields : NULL;
        while (rule && f < rule->fields + rule->count && strcmp(f->name, name) != 0)
            f++;
        if (strcmp(name, "message") == 0) {
            json_string(r, (uint8_t *)name, sizeof name - 1);
        } else if (strcmp(name, "extensions") == 0) {
            uint8_t ignored[PL_MAX_FRAME];
            size_t end = 0;
            *extensions = *r;
            result = read_tail(r, ignored, sizeof ignored, &end);
        } else if (rule && f < rule->fields + rule->count) {
            result = read_field(r, f);
            known++;
        } else if (!rule && strcmp(name, "rows") == 0) {
            result = read_rows(r);
            known++;
        } else if (!rule && strcmp(name, "resolution") == 0) {
            result = read_integer(r, PL_I32, (uint8_t *)&resolution);
            known++;
        } else {
            result = PL_ERR_RANGE;
        }
    }
    return result == PL_OK && known != (rule ? rule->count : 2u) ? PL_ERR_RANGE : result;
}

static bool encode_message(const pl_channel *channel, uint32_t counter, unsigned flags, unsigned type, const char *json)
{
    static uint8_t buf[1 << 14];
    size_t n = 0;
    json_reader r = {json, false}, extensions = {"[]", false};
    int result = read_message(&r, (uint8_t)type, &extensions);
    if (r.bad)
        return false;
    if (result == PL_OK)
        result = encode_body((uint8_t)type, buf, sizeof buf, &n);
    if (result == PL_OK && flags & PL_FLAG_TAIL)
        result = read_tail(&extensions, buf, sizeof buf, &n);
    if (result == PL_OK)
        result = seal(channel, buf, sizeof buf, (uint8_t)type, counter, n, flags, &n);
    answer("frame", buf, n, result);
    return true;
}

static bool encode_batch(const pl_channel *channel, uint32_t counter, int tick_ms, const char *json)
{
    static uint8_t buf[1 << 14];
    size_t n = 0;
    json_reader r = {json, false};
    int result = read_rows(&r);
    if (r.bad)
        return false;
    if (count > PL_MAX_BATCH || tick_ms < 1)
        result = PL_ERR_RANGE;
    for (size_t i = 0; result == PL_OK && i < count; i++)
        if (rows[i].time_ms % tick_ms)
            result = PL_ERR_RANGE;
    if (result == PL_OK)
        result = encode_body(PL_POSITION_BATCH, buf, sizeof buf, &n);
    if (result == PL_OK)
        result = pl_seal(channel, buf, sizeof buf, PL_POSITION_BATCH, counter, n, false, &n);
    answer("frame", buf, n, result);
    return true;
}

/* --- requests ------------------------------------------------------------------------------------------------ */

static void unpack(const uint8_t *data, size_t len)
{
    static pl_unpacker unpacker;
    unsigned frames = 0, invalid = 0;
    printf("{\"frames\": [");
    for (size_t i = 0; i < len; i++) {
        int n = pl_unpack(&unpacker, data[i]);
        if (n > 0) {
            printf("%s", frames++ ? ", " : "");
            hex(unpacker.data, (size_t)n);
        }
        invalid += n < 0;
    }
    printf("], \"invalid\": %u}\n", invalid);
}

static void step(pl_receiver *receiver, bool known, uint8_t *data, size_t len)
{
    pl_frame frame;
    int result = known ? pl_receive(receiver, data, len, &frame) : pl_open(&receiver->channel, data, len, &frame);
    if (!known && result != PL_REJECT_LENGTH && result != PL_REJECT_VERSION)
        result = PL_REJECT_KEY;
    if (result == PL_OK)
        result = decode_body(&frame);
    const char *name = result == PL_OK ? "accepted" : result == PL_REPEATED ? "repeated" : reason_of(result);
    printf("{\"step\": \"%s\"}\n", name);
}

/* Answer a request; false if it is none. */
static bool answer_request(const char *line)
{
    static char key_text[128], id[64], hex_text[LINE];
    static uint8_t data[LINE / 2], seen[(PL_REPLAY_WINDOW + 7) / 8];
    static pl_receiver receiver;
    static bool known;
    pl_channel channel;
    uint8_t key[32] = {0};
    uint32_t epoch = 0, counter = 0;
    unsigned flags = 0, type = 0;
    int direction = 0, json = 0, tick_ms = 0;
    if (line[0] == 'V') {
        printf("{\"protocol\": \"%d.%d\", \"codec\": \"patrolink.c\", \"rice\": true}\n", PL_VERSION, PL_MINOR);
    } else if (sscanf(line, "P %131071s", hex_text) == 1) {
        static uint8_t packet[PL_MAX_PACKET];
        size_t n = 0;
        int result = pl_packet(data, unhex(hex_text, data, sizeof data), packet, sizeof packet, &n);
        answer("packet", packet, n, result);
    } else if (sscanf(line, "U %131071s", hex_text) == 1) {
        unpack(data, unhex(hex_text, data, sizeof data));
    } else if (sscanf(line, "S %131071s", hex_text) == 1) {
        step(&receiver, known, data, unhex(hex_text, data, sizeof data));
    } else if (sscanf(line, "R %127s %63s %d %" SCNu32, key_text, id, &direction, &epoch) == 4) {
        known = unhex(key_text, key, sizeof key) == sizeof key;
        return pl_receiver_init(&receiver, key, (const uint8_t *)id, strlen(id), direction, epoch, seen, aes128) == PL_OK;
    } else if (sscanf(line, "F %127s %63s %d %" SCNu32 " %131071s", key_text, id, &direction, &epoch, hex_text) == 5) {
        unhex(key_text, key, sizeof key);
        if (pl_channel_init(&channel, key, (const uint8_t *)id, strlen(id), direction, epoch, aes128) != PL_OK)
            return false;
        check_frame(&channel, data, unhex(hex_text, data, sizeof data));
    } else if (sscanf(line, "E %127s %63s %d %" SCNu32 " %" SCNu32 " %u %u %n", key_text, id, &direction, &epoch, &counter,
                      &flags, &type, &json) == 7) {
        unhex(key_text, key, sizeof key);
        return pl_channel_init(&channel, key, (const uint8_t *)id, strlen(id), direction, epoch, aes128) == PL_OK &&
               encode_message(&channel, counter, flags, type, line + json);
    } else if (sscanf(line, "B %127s %63s %" SCNu32 " %" SCNu32 " %d %d %n", key_text, id, &epoch, &counter, &resolution,
                      &tick_ms, &json) == 6) {
        unhex(key_text, key, sizeof key);
        return pl_channel_init(&channel, key, (const uint8_t *)id, strlen(id), 0, epoch, aes128) == PL_OK &&
               encode_batch(&channel, counter, tick_ms, line + json);
    } else {
        return false;
    }
    return true;
}

int main(void)
{
    static char line[LINE];
    while (fgets(line, sizeof line, stdin)) {
        int c = strchr(line, '\n') || feof(stdin) ? '\n' : 0;
        bool is_whole = c != 0;
        while (c != '\n' && c != EOF) /* the rest of a line that is too long */
            c = getchar();
        if (!is_whole || !answer_request(line))
            printf("{\"error\": \"not a request\"}\n");
        fflush(stdout);
    }
    return 0;
}
