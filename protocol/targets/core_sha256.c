/* --- SHA-256 (FIPS 180-4) and HMAC (RFC 2104) --------------------------------------------------------------- */

typedef struct {
    uint32_t h[8];
    uint8_t block[64];
    uint32_t w[16], v[8]; /* of one block; here, so that one pl_wipe overwrites all that depends on a key */
    uint32_t len;
} sha256;

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

void pl_wipe(void *data, size_t len)
{
    volatile uint8_t *at = (volatile uint8_t *)data; /* volatile: compilers may not remove the writes */
    while (len--)
        *at++ = 0;
}

static void sha_block(sha256 *s)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t *v = s->v, *w = s->w;
    volatile uint32_t *h = s->h; /* volatile: compilers may not keep a copy, which nothing would wipe */
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
               (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
    for (int i = 0; i < 8; i++)
        v[i] = h[i];
    for (int i = 0; i < 64; i++) {
        uint32_t early = w[(i + 1) & 15], late = w[(i + 14) & 15], word = w[i & 15];
        uint32_t a = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + word;
        uint32_t b = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        /* Word i is needed no more: word i + 16 takes its place. */
        w[i & 15] = word + (ror(early, 7) ^ ror(early, 18) ^ early >> 3) + w[(i + 9) & 15] +
                    (ror(late, 17) ^ ror(late, 19) ^ late >> 10);
        v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + a, v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = a + b;
    }
    for (int i = 0; i < 8; i++)
        h[i] = h[i] + v[i];
}

static void sha_start(sha256 *s)
{
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (int i = 0; i < 8; i++)
        s->h[i] = h[i];
    s->len = 0;
}

static void sha_add(sha256 *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        s->block[s->len++ & 63] = data[i];
        if ((s->len & 63) == 0)
            sha_block(s);
    }
}

static void sha_end(sha256 *s, uint8_t digest[32])
{
    static const uint8_t pad[64] = {0x80};
    uint64_t bits = (uint64_t)s->len * 8;
    uint8_t tail[8];
    sha_add(s, pad, 64 - ((s->len + 8) & 63));
    for (int i = 0; i < 8; i++)
        tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha_add(s, tail, 8);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Set the state after one block: the key, padded (RFC 2104). */
static void sha_padded_key(sha256 *s, const uint8_t key[32], uint8_t pad)
{
    sha_start(s);
    for (int i = 0; i < 64; i++) {
        uint8_t byte = (uint8_t)((i < 32 ? key[i] : 0) ^ pad);
        sha_add(s, &byte, 1);
    }
}

static void set_key(pl_channel *ch, const uint8_t key[32])
{
    sha256 s;
    sha_padded_key(&s, key, 0x36);
    for (int i = 0; i < 8; i++)
        ch->inner[i] = s.h[i];
    sha_padded_key(&s, key, 0x5c);
    for (int i = 0; i < 8; i++)
        ch->outer[i] = s.h[i];
    pl_wipe(&s, sizeof s);
}

static void sha_continue(sha256 *s, const uint32_t h[8])
{
    for (int i = 0; i < 8; i++)
        s->h[i] = h[i];
    s->len = 64;
}

void pl_mac(const pl_channel *ch, const uint8_t *data, size_t len, uint8_t digest[32])
{
    sha256 s;
    sha_continue(&s, ch->inner);
    sha_add(&s, ch->context, ch->context_len);
    sha_add(&s, data, len);
    sha_end(&s, digest);
    sha_continue(&s, ch->outer);
    sha_add(&s, digest, 32);
    sha_end(&s, digest);
    pl_wipe(&s, sizeof s);
}
