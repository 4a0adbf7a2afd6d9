/* --- scalar messages ---------------------------------------------------------------------------------------- */

static bool is_utf8(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c = s[i++];
        int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
        if (more < 0 || (size_t)more > len - i)
            return false;
        if (more)
            c &= 0x3fu >> more;
        for (int j = 0; j < more; j++) {
            if (s[i] >> 6 != 2)
                return false;
            c = c << 6 | (s[i++] & 0x3f);
        }
        if ((more == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (more == 3 && (c < 0x10000 || c > 0x10ffff)))
            return false;
    }
    return true;
}

/* An integer member of a message structure, of any width. */
static uint64_t load(const uint8_t *at, uint8_t kind)
{
    switch (kind) {
    case PL_U8: return *at;
    case PL_I8: return (uint64_t)(int64_t)*(const int8_t *)at;
    case PL_U16: return *(const uint16_t *)(const void *)at;
    case PL_I16: return (uint64_t)(int64_t)*(const int16_t *)(const void *)at;
    case PL_U32: return *(const uint32_t *)(const void *)at;
    case PL_I32: return (uint64_t)(int64_t)*(const int32_t *)(const void *)at;
    default: return *(const uint64_t *)(const void *)at;
    }
}

static void store(uint8_t *at, uint8_t kind, uint64_t v)
{
    switch (kind) {
    case PL_U8: *at = (uint8_t)v; break;
    case PL_I8: *(int8_t *)at = (int8_t)v; break;
    case PL_U16: *(uint16_t *)(void *)at = (uint16_t)v; break;
    case PL_I16: *(int16_t *)(void *)at = (int16_t)v; break;
    case PL_U32: *(uint32_t *)(void *)at = (uint32_t)v; break;
    case PL_I32: *(int32_t *)(void *)at = (int32_t)v; break;
    default: *(uint64_t *)(void *)at = v; break;
    }
}

/* The length of a str or bytes member; its data follow. */
static size_t load_length(const uint8_t *at, const field_rule *f)
{
    return (size_t)load(at, f->size == 1 ? PL_U8 : PL_U16);
}

/* Whether a value, or a length of str or bytes, is legal. */
static bool legal(const field_rule *f, uint64_t v)
{
    const limit_rule *limit = &limits[f->limit];
    if (limit->has_unknown && v == limit->unknown)
        return true;
    if (f->kind == PL_I8 || f->kind == PL_I16 || f->kind == PL_I32)
        return (int64_t)v >= (int64_t)limit->low && (int64_t)v <= (int64_t)limit->high;
    return v >= limit->low && v <= limit->high;
}

static const message_rule *rule_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        if (messages[i].type == type)
            return &messages[i];
    return NULL;
}

static uint64_t load_field(const pl_message *message, const field_rule *f, bool *known)
{
    const uint8_t *member = (const uint8_t *)message + f->offset;
    bool text = f->kind == PL_STR || f->kind == PL_BYTES;
    uint64_t v = text ? load_length(member, f) : load(member, f->kind);
    *known = !limits[f->limit].has_unknown || v != limits[f->limit].unknown;
    return v;
}

static bool pairs_hold(const pl_message *message, const message_rule *rule)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bool first, second;
        if (pairs[i].type != rule->type)
            continue;
        uint64_t a = load_field(message, rule->fields + pairs[i].first, &first);
        uint64_t b = load_field(message, rule->fields + pairs[i].second, &second);
        if (pairs[i].ordered ? first && second && a > b : first != second)
            return false;
    }
    return true;
}

int pl_decode(uint8_t type, const uint8_t *body, size_t len, pl_message *out)
{
    const message_rule *rule = rule_of(type);
    size_t at = 0;
    if (!rule)
        return PL_REJECT_TYPE;
    out->type = type;
    for (const field_rule *f = rule->fields; f < rule->fields + rule->count; f++) {
        uint8_t *member = (uint8_t *)out + f->offset;
        size_t n = f->size;
        if (len - at < n)
            return PL_REJECT_LENGTH;
        if (f->kind == PL_STR || f->kind == PL_BYTES) {
            n = body[at++];
            if (f->size == 2)
                n = n << 8 | body[at++];
            if (len - at < n)
                return PL_REJECT_LENGTH;
            if (!legal(f, n) || (f->kind == PL_STR && !is_utf8(body + at, n)))
                return PL_REJECT_RANGE;
            store(member, f->size == 1 ? PL_U8 : PL_U16, n);
            for (size_t i = 0; i < n; i++)
                member[f->size + i] = body[at + i];
        } else {
            uint64_t v = f->kind & 1 && body[at] & 0x80 ? ~(uint64_t)0 : 0;
            for (size_t i = 0; i < n; i++)
                v = v << 8 | body[at + i];
            if (!legal(f, v))
                return PL_REJECT_RANGE;
            store(member, f->kind, v);
        }
        at += n;
    }
    return pairs_hold(out, rule) ? PL_OK : PL_REJECT_RANGE;
}

int pl_encode(const pl_message *in, uint8_t *buf, size_t cap, size_t *len)
{
    const message_rule *rule = rule_of(in->type);
    size_t at = 0;
    if (!rule || !pairs_hold(in, rule))
        return PL_ERR_RANGE;
    for (const field_rule *f = rule->fields; f < rule->fields + rule->count; f++) {
        const uint8_t *member = (const uint8_t *)in + f->offset;
        bool text = f->kind == PL_STR || f->kind == PL_BYTES;
        size_t n = text ? load_length(member, f) : 0;
        uint64_t number = text ? n : load(member, f->kind);
        if (!legal(f, number) || (f->kind == PL_STR && !is_utf8(member + 1, n)))
            return PL_ERR_RANGE;
        if (cap - at < f->size + n)
            return PL_ERR_SPACE;
        for (size_t i = 0; i < f->size; i++)
            buf[at++] = (uint8_t)(number >> 8 * (f->size - 1 - i));
        for (size_t i = 0; i < n; i++)
            buf[at++] = member[f->size + i];
    }
    *len = at;
    return PL_OK;
}

