/* --- position batches --------------------------------------------------------------------------------------- */

enum { CONSTANT, FIXED, RICE, RAW };
enum { RUNS = 13, ESCAPE = 12, LONGEST = 36 }; /* LONGEST: bits after the first one bit of a code */
static const int32_t ticks_ms[4] = {1000, 100, 10, 1};

typedef struct {
    const uint8_t *data;
    size_t left; /* bits */
    size_t at;
    int error; /* the first one; reads return 0 from then on */
} bit_reader;

/* The next 57 bits or more, most significant first; zeros after the end. */
static uint64_t peek(const bit_reader *b)
{
    const uint8_t *p = b->data + (b->at >> 3);
    size_t bytes = (b->left + (b->at & 7) + 7) >> 3;
    uint64_t v = 0;
    if (bytes >= 8) /* compilers make this one load */
        v = (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
            (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | p[7];
    else
        for (size_t i = 0; i < bytes; i++)
            v |= (uint64_t)p[i] << (56 - 8 * i);
    return v << (b->at & 7);
}

static uint64_t get(bit_reader *b, unsigned n)
{
    if (b->error || n > b->left) {
        b->error = b->error ? b->error : PL_REJECT_LENGTH;
        return 0;
    }
    uint64_t v = n ? peek(b) >> (64 - n) : 0;
    b->left -= n;
    b->at += n;
    return v;
}

static unsigned leading_zeros(uint64_t v)
{
#if defined(__GNUC__) && UINTPTR_MAX > UINT32_MAX /* elsewhere it would call a library */
    return v ? (unsigned)__builtin_clzll(v) : 64;
#else
    unsigned n = 0;
    for (; n < 64 && !(v >> 63); v <<= 1)
        n++;
    return n;
#endif
}

/* Read the zeros before the next one, and the one; or `most` zeros. Returns the number of zeros. */
static unsigned get_zeros(bit_reader *b, unsigned most)
{
    unsigned n = leading_zeros(peek(b));
    n = n < most ? n : most;
    get(b, n < most ? n + 1 : n);
    return n;
}

static uint64_t get_eg(bit_reader *b, unsigned k)
{
    unsigned n = get_zeros(b, LONGEST - k + 1) + k;
    if (!b->error && n > LONGEST)
        b->error = PL_REJECT_RANGE;
    return b->error ? 0 : ((uint64_t)1 << n) + get(b, n) - ((uint64_t)1 << k);
}

static uint64_t get_rice(bit_reader *b, unsigned k)
{
    uint64_t v = peek(b);
    unsigned n = leading_zeros(v);
    if (n < ESCAPE && n + 1 + k <= b->left && !b->error) { /* the usual code; its one becomes bit k of v */
        v = v << n >> (63 - k);
        b->left -= n + 1 + k;
        b->at += n + 1 + k;
        return v + ((uint64_t)n << k) - ((uint64_t)1 << k);
    }
    n = get_zeros(b, ESCAPE);
    return n < ESCAPE ? get(b, k) : ((uint64_t)n << k) + get_eg(b, k + 3);
}

static int64_t unzigzag(uint64_t c) { return (int64_t)(c >> 1 ^ (0 - (c & 1))); }

static uint64_t zigzag(int64_t v) { return v >= 0 ? (uint64_t)v << 1 : ~((uint64_t)v << 1); }

static int64_t sign_extend(uint64_t v, unsigned bits)
{
    return (int64_t)v - (v >> (bits - 1) ? (int64_t)1 << bits : 0);
}

/* Conversion of a stored value to the value of a row; the time column needs only start and unit. */
typedef struct {
    const column_rule *rule; /* NULL: time */
    int64_t divisor, offset, lowest;
    int64_t start, unit; /* time */
    size_t index;
    bool bad;
} sink;

static void put_value(sink *s, pl_row *row, int64_t v)
{
    const column_rule *c = s->rule;
    if (!c) {
        row->time_ms = s->start + v * s->unit;
        s->bad |= row->time_ms < 0 || row->time_ms > PL_TIME_MAX_MS;
        return;
    }
    if (v < s->lowest || (c->modulus && v >= c->modulus) || (v + s->offset) * s->divisor >= (int64_t)c->high + s->divisor)
        s->bad = true;
    else
        row->value[s->index] = c->optional && v == 0 ? PL_UNKNOWN : (int32_t)((v + s->offset) * s->divisor);
}

/* A value summed from differences; in a cyclic column it may exceed the modulus. */
static void put_sum(sink *s, pl_row *row, int64_t v)
{
    if (s->rule && s->rule->modulus && (v < 0 || v >= s->rule->modulus)) {
        v %= s->rule->modulus;
        v += v < 0 ? s->rule->modulus : 0;
    }
    put_value(s, row, v);
}

static void get_column(bit_reader *b, sink *s, pl_row *rows, size_t n, int64_t first, unsigned bits, bool is_signed)
{
    size_t i = 1;
    int64_t delta = 0;
    uint64_t run = 0;
    bool in_run = false;
    put_value(s, rows, first);
    if (n == 1)
        return;
    bool second = get(b, 1);
    unsigned kind = (unsigned)get(b, 2), k = 0;
    if (kind == RAW && second)
        b->error = b->error ? b->error : PL_REJECT_RANGE;
    if (kind != RAW && second) {
        delta = unzigzag(get_eg(b, 0));
        first += delta;
        put_sum(s, rows + i++, first);
    }
    if (kind == FIXED) {
        k = (unsigned)get(b, 6);
        if (!b->error && (k < 1 || k > 34))
            b->error = PL_REJECT_RANGE;
    } else if (kind == RICE) {
        k = (unsigned)get(b, 4);
    }
    for (; i < n && !b->error; i++) {
        uint64_t code = 0;
        if (kind == RAW) {
            uint64_t v = get(b, bits);
            put_value(s, rows + i, is_signed ? sign_extend(v, bits) : (int64_t)v);
            continue;
        }
        if (kind == FIXED) {
            code = get(b, k);
        } else if (kind == RICE && k < RUNS) {
            code = get_rice(b, k);
        } else if (kind == RICE) {
            if (!in_run) {
                run = get_eg(b, k - RUNS + 2);
                if (!b->error && run > n - i)
                    b->error = PL_REJECT_RANGE;
                in_run = true;
            }
            if (run) {
                run--;
            } else {
                code = get_eg(b, 0) + 1;
                in_run = false;
            }
        }
        delta = (second ? delta : 0) + unzigzag(code);
        first += delta;
        put_sum(s, rows + i, first);
    }
}

int pl_track_decode(const uint8_t *body, size_t len, pl_row *rows, size_t max_rows, size_t *count, int *resolution)
{
    bit_reader b = {body, len * 8, 0, 0};
    uint64_t rows_minus_one = get_eg(&b, 0);
    if (b.error || rows_minus_one >= PL_MAX_BATCH)
        return b.error ? b.error : PL_REJECT_RANGE;
    size_t n = (size_t)rows_minus_one + 1;
    unsigned r = (unsigned)get(&b, 2), tick = (unsigned)get(&b, 2);
    if (b.error || r > 2)
        return b.error ? b.error : PL_REJECT_RANGE;
    unsigned present = get(&b, 1) ? (1u << PL_OPTIONAL) - 1 : (unsigned)get(&b, PL_OPTIONAL);
    sink s = {NULL, 1, 0, 0, (int64_t)get(&b, 32) * 1000, ticks_ms[tick], 0, false};
    if (tick) {
        unsigned ms = (unsigned)get(&b, 10);
        if (!b.error && ms > 999)
            return PL_REJECT_RANGE;
        s.start += ms;
    }
    if (b.error)
        return b.error;
    if (n > max_rows)
        return PL_ERR_SPACE;
    get_column(&b, &s, rows, n, 0, 32, true);
    if (!b.error && s.bad)
        return PL_REJECT_RANGE;
    for (size_t i = 0; i < PL_COLUMNS - 1 && !b.error; i++) {
        const column_rule *c = &columns[i];
        if (c->optional) {
            bool here = present & 1;
            present >>= 1;
            if (!here) {
                for (size_t j = 0; j < n; j++)
                    rows[j].value[i] = PL_UNKNOWN;
                continue;
            }
        }
        int64_t least = c->low / c->divisor[r]; /* limits are multiples of the divisors */
        int64_t first = (int64_t)(c->k < 0 ? get(&b, c->bits[r]) : get_eg(&b, (unsigned)c->k));
        if (c->is_signed && !c->optional)
            first = sign_extend((uint64_t)first, c->bits[r]);
        else if (c->is_signed && first)
            first = unzigzag((uint64_t)first - 1) + 1 - least;
        s.rule = c;
        s.index = i;
        s.divisor = c->divisor[r];
        s.lowest = c->optional ? 0 : least;
        s.offset = c->optional ? (c->is_signed ? least : 0) - 1 : 0;
        s.bad = false;
        get_column(&b, &s, rows, n, first, c->bits[r], c->is_signed && !c->optional);
        if (!b.error && s.bad)
            return PL_REJECT_RANGE;
    }
    if (b.error)
        return b.error;
    if (b.left > 7 || get(&b, (unsigned)b.left))
        return PL_REJECT_LENGTH;
    for (size_t j = 0; j < n; j++)
        if (!(rows[j].value[PL_STATE] & 3))
            return PL_REJECT_RANGE;
    *count = n;
    *resolution = (int)r + 5;
    return PL_OK;
}

