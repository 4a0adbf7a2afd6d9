/* --- frames ------------------------------------------------------------------------------------------------- */


/* HMAC-SHA256(device key, label | epoch); `ch` has the device key and no context. */
static void derive(const pl_channel *ch, const char *label, uint32_t epoch, uint8_t derived[32])
{
    uint8_t text[32];
    size_t n = 0;
    for (; label[n]; n++)
        text[n] = (uint8_t)label[n];
    for (int i = 0; i < 4; i++)
        text[n++] = (uint8_t)(epoch >> (24 - 8 * i));
    pl_mac(ch, text, n, derived);
}

int pl_channel_init(pl_channel *ch, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction, uint32_t epoch,
                    pl_aes128 *aes)
{
    uint8_t derived[32];
    if (id_len < 1 || id_len > 32 || direction < 0 || direction > 1)
        return PL_ERR_RANGE;
    ch->context_len = 0;
    set_key(ch, key);
    derive(ch, direction ? "patrolink-down-cipher" : "patrolink-up-cipher", epoch, derived);
    for (size_t i = 0; i < sizeof ch->cipher_key; i++)
        ch->cipher_key[i] = derived[i];
    derive(ch, direction ? "patrolink-down" : "patrolink-up", epoch, derived);
    set_key(ch, derived);
    pl_wipe(derived, sizeof derived);
    ch->aes = aes;
    ch->direction = (uint8_t)direction;
    ch->phase = (uint8_t)(epoch & 1);
    ch->context[0] = (uint8_t)id_len;
    for (size_t i = 0; i < id_len; i++)
        ch->context[1 + i] = id[i];
    ch->context[1 + id_len] = (uint8_t)direction;
    ch->context_len = (uint8_t)(id_len + 2);
    return PL_OK;
}

/* Encrypt or decrypt data[PL_HEADER] to data[end - 1]: AES-128 in counter mode (NIST SP 800-38A, 6.5). */
static void apply_cipher(const pl_channel *ch, uint8_t *data, size_t end)
{
    uint8_t block[16] = {0}, stream[16];
    for (size_t i = 0; i < PL_HEADER; i++)
        block[i] = data[i];
    for (size_t at = PL_HEADER; at < end; block[15]++) { /* a frame has at most 64 blocks */
        ch->aes(ch->cipher_key, block, stream);
        for (size_t i = 0; i < sizeof stream && at < end; i++)
            data[at++] ^= stream[i];
    }
    pl_wipe(stream, sizeof stream);
}

static size_t tag_bytes(uint8_t type) { return type >= PL_LONG_TAG_FROM ? PL_LONG_TAG_BYTES : PL_TAG_BYTES; }

/* Steps 1 to 6 of SPEC.md, "Frame": everything before the counter. */
static int authenticate(const pl_channel *ch, const uint8_t *data, size_t len, pl_frame *out)
{
    uint8_t digest[32], diff = 0;
    out->genuine = false;
    if (len < PL_HEADER + PL_TAG_BYTES || len > PL_MAX_FRAME)
        return PL_REJECT_LENGTH;
    if (data[0] >> 5 != PL_VERSION)
        return PL_REJECT_VERSION;
    uint8_t type = data[0] & 31;
    size_t n = tag_bytes(type);
    if (len < PL_HEADER + n)
        return PL_REJECT_LENGTH;
    size_t end = len - n;
    pl_mac(ch, data, end, digest);
    for (size_t i = 0; i < n; i++)
        diff |= digest[i] ^ data[end + i];
    if (diff)
        return PL_REJECT_TAG;
    uint8_t flags = data[1] >> 4;
    if (flags & ~(PL_FLAG_TAIL | PL_FLAG_PHASE | PL_FLAG_ENCRYPTED) || !(flags & PL_FLAG_PHASE) != !ch->phase)
        return PL_REJECT_CRITICAL;
    out->type = type;
    out->counter = (uint32_t)(data[1] & 15) << 24 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 8 | data[4];
    out->genuine = true;
    return PL_OK;
}

/* Steps 8 and 9: tail and type of an authentic frame, decrypted in place. */
static int read_parts(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out)
{
    size_t end = len - tag_bytes(out->type);
    uint8_t flags = data[1] >> 4;
    if (flags & PL_FLAG_ENCRYPTED) {
        if (!ch->aes)
            return PL_ERR_CIPHER;
        apply_cipher(ch, data, end);
    }
    out->tail = data + end;
    out->tail_len = 0;
    if (flags & PL_FLAG_TAIL) {
        bool critical = false, legal_types = true;
        uint8_t types[16] = {0}; /* bit of each type that was present */
        if (end == PL_HEADER || (size_t)data[end - 1] > end - 1 - PL_HEADER)
            return PL_REJECT_LENGTH;
        out->tail_len = data[end - 1];
        out->tail = data + end - 1 - out->tail_len;
        for (size_t at = 0; at < out->tail_len; at += 2u + out->tail[at + 1]) {
            if (at + 2 > out->tail_len || at + 2u + out->tail[at + 1] > out->tail_len)
                return PL_REJECT_LENGTH;
            uint8_t type = out->tail[at] & 127, length = out->tail[at + 1], bit = (uint8_t)(1 << (type & 7));
            critical |= out->tail[at] >> 7;
            legal_types &= type && !(types[type >> 3] & bit);
            types[type >> 3] |= bit;
            for (size_t i = 0; i < sizeof extension_rules / sizeof *extension_rules; i++)
                legal_types &= type != extension_rules[i].type || (length >= extension_rules[i].low && length <= extension_rules[i].high);
        }
        if (!legal_types)
            return PL_REJECT_RANGE;
        if (critical)
            return PL_REJECT_CRITICAL;
        end -= 1 + out->tail_len;
    }
    if (!((ch->direction ? PL_DOWN : PL_UP) >> out->type & 1))
        return PL_REJECT_TYPE;
    out->body = data + PL_HEADER;
    out->body_len = end - PL_HEADER;
    return PL_OK;
}

int pl_open(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out)
{
    int result = authenticate(ch, data, len, out);
    return result == PL_OK ? read_parts(ch, data, len, out) : result;
}

/* Complete a frame with these flags; the phase is added. */
static int seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, unsigned flags,
                size_t *len)
{
    uint8_t digest[32];
    if (type > 31 || counter > PL_COUNTER_MAX || end < PL_HEADER)
        return PL_ERR_RANGE;
    size_t n = tag_bytes(type);
    if (end + n > cap || end + n > PL_MAX_FRAME)
        return PL_ERR_SPACE;
    if (flags & PL_FLAG_ENCRYPTED && !ch->aes)
        return PL_ERR_CIPHER;
    flags |= ch->phase ? PL_FLAG_PHASE : 0u;
    buf[0] = (uint8_t)(PL_VERSION << 5 | type);
    buf[1] = (uint8_t)(flags << 4 | counter >> 24);
    buf[2] = (uint8_t)(counter >> 16);
    buf[3] = (uint8_t)(counter >> 8);
    buf[4] = (uint8_t)counter;
    if (flags & PL_FLAG_ENCRYPTED)
        apply_cipher(ch, buf, end);
    pl_mac(ch, buf, end, digest);
    for (size_t i = 0; i < n; i++)
        buf[end + i] = digest[i];
    *len = end + n;
    return PL_OK;
}

int pl_seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, bool tail,
            size_t *len)
{
    unsigned encrypted = type < 32 && PL_CONFIDENTIAL >> type & 1 ? PL_FLAG_ENCRYPTED : 0u;
    return seal(ch, buf, cap, type, counter, end, encrypted | (tail ? PL_FLAG_TAIL : 0u), len);
}

static void forget(pl_receiver *r)
{
    r->highest = -1;
    for (size_t i = 0; r->seen && i < (PL_REPLAY_WINDOW + 7) / 8; i++)
        r->seen[i] = 0;
}

int pl_receiver_init(pl_receiver *r, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction, uint32_t epoch,
                     uint8_t *seen, pl_aes128 *aes)
{
    if ((direction == 0 && !seen) || pl_channel_init(&r->channel, key, id, id_len, direction, epoch, aes) != PL_OK)
        return PL_ERR_RANGE;
    for (size_t i = 0; i < 32; i++) {
        r->key[i] = key[i];
        r->id[i] = i < id_len ? id[i] : 0;
    }
    r->id_len = (uint8_t)id_len;
    r->epoch = epoch;
    r->seen = direction ? NULL : seen;
    forget(r);
    return PL_OK;
}

static int take(pl_receiver *r, uint32_t counter)
{
    uint8_t bit = (uint8_t)(1 << (counter & 7));
    if (!r->seen) {
        if ((int64_t)counter <= r->highest)
            return PL_REJECT_REPLAY;
        r->highest = counter;
        return PL_OK;
    }
    uint8_t *slot = &r->seen[counter % PL_REPLAY_WINDOW >> 3];
    if ((int64_t)counter > r->highest) {
        /* Slots between the old highest counter and this one are counters not seen: at most a full window. */
        int64_t from = r->highest + 1;
        if (from < (int64_t)counter - PL_REPLAY_WINDOW + 1)
            from = (int64_t)counter - PL_REPLAY_WINDOW + 1;
        for (; from < (int64_t)counter; from++)
            if (from >= 0)
                r->seen[from % PL_REPLAY_WINDOW >> 3] &= (uint8_t)~(1 << (from & 7));
        r->highest = counter;
    } else if ((int64_t)counter <= r->highest - PL_REPLAY_WINDOW) {
        return PL_REJECT_REPLAY;
    } else if (*slot & bit) {
        return PL_REPEATED;
    }
    *slot |= bit;
    return PL_OK;
}

int pl_receive(pl_receiver *r, uint8_t *data, size_t len, pl_frame *out)
{
    int result;
    if (len < PL_HEADER || !(data[1] >> 4 & PL_FLAG_PHASE) == !r->channel.phase || r->epoch == UINT32_MAX) {
        result = authenticate(&r->channel, data, len, out);
    } else {
        pl_channel next;
        pl_channel_init(&next, r->key, r->id, r->id_len, r->channel.direction, r->epoch + 1, r->channel.aes);
        result = authenticate(&next, data, len, out);
        if (result == PL_OK) {
            r->channel = next;
            r->epoch++;
            forget(r);
        }
        pl_wipe(&next, sizeof next);
    }
    if (result == PL_OK)
        result = take(r, out->counter);
    return result == PL_OK ? read_parts(&r->channel, data, len, out) : result;
}

bool pl_may_reject(pl_reject_gate *gate, const pl_frame *frame, int reason, int64_t now_ms)
{
    bool is_replay = reason == PL_REJECT_REPLAY;
    if (!frame->genuine || frame->type == PL_REJECT || reason <= 0 || now_ms < gate->next_ms ||
        (is_replay && now_ms < gate->next_replay_ms))
        return false;
    gate->next_ms = now_ms + PL_TIMER_REJECT_INTERVAL_MS;
    if (is_replay)
        gate->next_replay_ms = now_ms + PL_TIMER_REPLAY_REJECT_INTERVAL_MS;
    return true;
}

