typedef struct {
    uint8_t *buf;
    size_t cap, at; /* bits; beyond the capacity nothing is written */
} bit_writer;

static void put(bit_writer *b, uint64_t v, unsigned n)
{
    while (n--) {
        if (b->at < b->cap) {
            uint8_t mask = (uint8_t)(0x80 >> (b->at & 7));
            if ((b->at & 7) == 0)
                b->buf[b->at >> 3] = 0;
            if (v >> n & 1)
                b->buf[b->at >> 3] |= mask;
        }
        b->at++;
    }
}

static unsigned width(uint64_t v)
{
    unsigned n = 0;
    for (; v; v >>= 1)
        n++;
    return n;
}

static void put_eg(bit_writer *b, uint64_t code, unsigned k)
{
    code += (uint64_t)1 << k;
    put(b, 0, width(code) - k - 1);
    put(b, code, width(code));
}

static int32_t fold(int32_t v, int32_t modulus)
{
    if (!modulus)
        return v;
    v = (v + modulus / 2) % modulus;
    return v + (v < 0 ? modulus : 0) - modulus / 2;
}

/* bits << 8 | kind << 6 | parameter of the best coding. The cost of Rice is estimated from the sum of the codes; the
 * low bits of each code count as half of their maximum. */
static uint64_t cheapest(const int32_t *steps, size_t start, size_t end, bool rice)
{
    uint64_t wide = 0, total = 0, n = end - start, other = 0;
    for (size_t i = start; i < end; i++) {
        wide |= zigzag(steps[i]);
        total += zigzag(steps[i]);
        other += steps[i] != 0;
    }
    if (!wide)
        return 0;
    uint64_t best = (6 + n * width(wide)) << 8 | FIXED << 6 | width(wide), other_way;
    if (!rice)
        return best;
    for (unsigned k = 0; k < 13; k++) {
        uint64_t low = n * (((uint64_t)1 << k) - 1), cost = 4 + n * (k + 1) + (2 * total > low ? (2 * total - low) >> (k + 1) : 0);
        other_way = cost << 8 | RICE << 6 | k;
        best = other_way < best ? other_way : best;
    }
    if (3 * other <= n) {
        unsigned k = 2;
        while (k < 4 && n / (other + 1) >> (k + 1))
            k++;
        other_way = (4 + (other + 1) * (k + 1) + 2 * other * width(total / (2 * other) | 1)) << 8 | RICE << 6 | (RUNS + k - 2);
        best = other_way < best ? other_way : best;
    }
    return best;
}

static void put_steps(bit_writer *b, const int32_t *steps, size_t i, size_t n, unsigned mode)
{
    unsigned k = mode & 63;
    uint64_t run = 0;
    if (mode >> 6 == CONSTANT)
        return;
    put(b, k, mode >> 6 == FIXED ? 6 : 4);
    for (; i < n; i++) {
        uint64_t code = zigzag(steps[i]);
        if (mode >> 6 == FIXED) {
            put(b, code, k);
        } else if (k < RUNS) {
            bool escaped = code >> k >= ESCAPE;
            put(b, 0, escaped ? ESCAPE : (unsigned)(code >> k));
            if (escaped)
                put_eg(b, code - ((uint64_t)ESCAPE << k), k + 3);
            else
                put(b, (uint64_t)1 << k | (code & (((uint64_t)1 << k) - 1)), k + 1);
        } else if (code) {
            put_eg(b, run, k - RUNS + 2);
            put_eg(b, code - 1, 0);
            run = 0;
        } else {
            run++;
        }
    }
    if (run)
        put_eg(b, run, k - RUNS + 2);
}

/* Differences that 32-bit devices do not encode; such a column is written raw. */
#define TAME ((int64_t)1 << 29)

/* Replace v[from] to v[n - 1] by their differences, or differences by their sums. */
static void difference(int32_t *v, size_t from, size_t n, int32_t modulus)
{
    for (size_t i = n; i-- > from;)
        v[i] = fold(v[i] - v[i - 1], modulus);
}

static void sum(int32_t *v, size_t from, size_t n, int32_t modulus)
{
    for (size_t i = from; i < n; i++)
        v[i] = fold(v[i] + v[i - 1], modulus);
}

static void put_raw(bit_writer *b, const int32_t *v, size_t n, unsigned bits, int32_t modulus)
{
    put(b, RAW, 3);
    for (size_t i = 1; i < n; i++)
        put(b, (uint64_t)(int64_t)(v[i] < 0 ? v[i] + modulus : v[i]), bits);
}

/* Write rows 1 to n - 1 of a column. `v` is overwritten. */
static void put_column(bit_writer *b, int32_t *v, size_t n, unsigned bits, int32_t modulus, bool rice)
{
    bool wild = false;
    if (n == 1)
        return;
    for (size_t i = 1; i < n; i++) {
        int64_t step = (int64_t)v[i] - v[i - 1];
        wild |= step >= TAME || step <= -TAME;
    }
    if (wild) {
        put_raw(b, v, n, bits, 0);
        return;
    }
    difference(v, 1, n, modulus);
    uint64_t first = cheapest(v, 1, n, rice), lead = zigzag(v[1]), raw = bits * (n - 1);
    difference(v, 2, n, modulus);
    uint64_t second = cheapest(v, 2, n, rice), cost = (second >> 8) + 2 * width(lead + 1) - 1;
    if (raw <= cost && raw <= first >> 8) {
        sum(v, 2, n, modulus);
        sum(v, 1, n, modulus);
        put_raw(b, v, n, bits, modulus);
    } else if (cost < first >> 8) {
        put(b, 4 | (second & 255) >> 6, 3);
        put_eg(b, lead, 0);
        put_steps(b, v, 2, n, second & 255);
    } else {
        sum(v, 2, n, modulus);
        put(b, (first & 255) >> 6, 3);
        put_steps(b, v, 1, n, first & 255);
    }
}

/* Compute the stored value of a column of a row; false if it cannot be stored. */
static bool stored(const column_rule *c, unsigned r, int32_t value, int32_t *out)
{
    int32_t v = value, d = c->divisor[r];
    if (v < c->low || v > c->high) {
        *out = 0;
        return c->optional;
    }
    v = v >= 0 ? (v + d / 2) / d : -((d / 2 - v) / d);
    if (c->modulus && v == c->modulus - 1)
        v = 0;
    *out = c->optional ? v + 1 - (c->is_signed ? c->low / d : 0) : v;
    return true;
}

int pl_track_encode(const pl_row *rows, size_t n, int resolution, bool rice, unsigned omit, uint8_t *buf, size_t cap,
                    size_t *len)
{
    int32_t v[PL_MAX_BATCH];
    bit_writer b = {buf, cap * 8, 0};
    unsigned tick = 0, present = 0, r = (unsigned)resolution - 5, bit = 1;
    if (n < 1 || n > PL_MAX_BATCH || resolution < 5 || resolution > 7)
        return PL_ERR_RANGE;
    int64_t start = rows[0].time_ms;
    tick = start % 1000 != 0;
    for (size_t j = 0; j < n; j++) {
        int64_t time = rows[j].time_ms, since;
        if (time < 0 || time / 1000 > (int64_t)UINT32_MAX || !(rows[j].value[PL_STATE] & 3))
            return PL_ERR_RANGE;
        since = time - start;
        if (since >= TAME || since <= -TAME)
            return PL_ERR_RANGE;
        v[j] = (int32_t)since;
        while (v[j] % ticks_ms[tick])
            tick++;
    }
    for (size_t i = 0; i < PL_COLUMNS - 1; i++) {
        if (!columns[i].optional)
            continue;
        for (size_t j = 0; j < n && !(omit & bit); j++) {
            int32_t value;
            if (stored(&columns[i], r, rows[j].value[i], &value) && value)
                present |= bit;
        }
        bit <<= 1;
    }
    put_eg(&b, n - 1, 0);
    put(&b, r << 2 | tick, 4);
    put(&b, present == bit - 1 ? 1 : present, present == bit - 1 ? 1 : 1 + PL_OPTIONAL);
    put(&b, (uint64_t)(start / 1000), 32);
    if (tick)
        put(&b, (uint64_t)(start % 1000), 10);
    for (size_t j = 0; j < n; j++)
        v[j] /= ticks_ms[tick];
    put_column(&b, v, n, 32, 0, rice);
    for (size_t i = 0; i < PL_COLUMNS - 1; i++) {
        const column_rule *c = &columns[i];
        bool here = !c->optional || present & 1;
        present >>= c->optional;
        if (!here)
            continue;
        for (size_t j = 0; j < n; j++)
            if (!stored(c, r, rows[j].value[i], &v[j]))
                return PL_ERR_RANGE;
        if (c->k < 0)
            put(&b, (uint64_t)v[0], c->bits[r]);
        else if (v[0] && c->is_signed)
            put_eg(&b, zigzag(v[0] - 1 + c->low / c->divisor[r]) + 1, (unsigned)c->k);
        else
            put_eg(&b, (uint64_t)v[0], (unsigned)c->k);
        put_column(&b, v, n, c->bits[r], c->modulus, rice);
    }
    if (b.at > b.cap)
        return PL_ERR_SPACE;
    *len = (b.at + 7) / 8;
    return PL_OK;
}
