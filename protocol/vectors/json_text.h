/* Reads JSON for check.c, value by value; `bad` is set at the first thing that is not JSON, or not what was asked for. */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at;
    bool bad;
} json_reader;

/* Take a character after white space, if it is the next one. */
static bool json_take(json_reader *r, char c)
{
    r->at += strspn(r->at, " \t\r\n");
    if (r->bad || *r->at != c)
        return false;
    r->at++;
    return true;
}

static void json_expect(json_reader *r, char c)
{
    if (!json_take(r, c))
        r->bad = true;
}

/* Whether a list or object has a further element; `count` is the number of elements before it. */
static bool json_more(json_reader *r, size_t count, char end)
{
    if (r->bad || json_take(r, end))
        return false;
    if (count)
        json_expect(r, ',');
    return !r->bad;
}

static bool json_null(json_reader *r)
{
    r->at += strspn(r->at, " ");
    if (strncmp(r->at, "null", 4) != 0)
        return false;
    r->at += 4;
    return true;
}

/* Read an integer: its magnitude and its sign. Returns false for another number, or if it has more than 64 bits. */
static bool json_integer(json_reader *r, uint64_t *magnitude, bool *negative)
{
    *negative = json_take(r, '-');
    bool fits = true;
    size_t digits = strspn(r->at, "0123456789");
    *magnitude = 0;
    if (!digits)
        r->bad = true;
    for (; digits; digits--, r->at++) {
        uint64_t digit = (uint64_t)(*r->at - '0');
        fits = fits && *magnitude <= (UINT64_MAX - digit) / 10;
        *magnitude = *magnitude * 10 + digit;
    }
    size_t rest = strspn(r->at, ".eE+-0123456789");
    r->at += rest;
    return fits && !rest;
}

static uint32_t json_unicode(json_reader *r)
{
    char digits[5] = {0};
    if (strspn(r->at, "0123456789abcdefABCDEF") < 4) {
        r->bad = true;
        return 0;
    }
    memcpy(digits, r->at, 4);
    r->at += 4;
    return (uint32_t)strtoul(digits, NULL, 16);
}

/* Read the code point after a backslash. A surrogate without its partner is returned as it is: it is no legal UTF-8. */
static uint32_t json_escape(json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *r->at;
    const char *place = c ? strchr(from, c) : NULL;
    if (c)
        r->at++;
    if (place)
        return (uint8_t)to[place - from];
    if (c != 'u') {
        r->bad = true;
        return 0;
    }
    uint32_t code = json_unicode(r);
    if (code >> 10 == 0x36 && strncmp(r->at, "\\u", 2) == 0) {
        json_reader ahead = {r->at + 2, false};
        uint32_t low = json_unicode(&ahead);
        if (!ahead.bad && low >> 10 == 0x37) {
            r->at = ahead.at;
            return 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff));
        }
    }
    return code;
}

/* Read a string as UTF-8; returns its length, of which at most `cap` bytes are stored. */
static size_t json_string(json_reader *r, uint8_t *buf, size_t cap)
{
    size_t n = 0;
    json_expect(r, '"');
    while (!r->bad && *r->at != '"') {
        uint8_t bytes[4];
        size_t more = 0;
        if (!*r->at) {
            r->bad = true;
            break;
        }
        uint32_t code = (uint8_t)*r->at++;
        bool escaped = code == '\\';
        if (escaped) {
            code = json_escape(r);
            more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        }
        static const uint8_t lead[4] = {0, 0xc0, 0xe0, 0xf0};
        bytes[0] = (uint8_t)(lead[more] | code >> 6 * more);
        for (size_t i = 1; i <= more; i++)
            bytes[i] = (uint8_t)(0x80 | (code >> 6 * (more - i) & 0x3f));
        for (size_t i = 0; i <= more; i++, n++)
            if (n < cap)
                buf[n] = bytes[i];
    }
    json_expect(r, '"');
    return n;
}

#endif
