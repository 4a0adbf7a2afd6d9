/* --- serial lines ------------------------------------------------------------------------------------------- */

enum { CRC_BYTES = 2, BLOCK_MAX = 0xff };

/* CRC-16/CCITT-FALSE of one more byte. */
static uint16_t crc_add(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc ^ byte << 8);
    for (int i = 0; i < 8; i++)
        crc = (uint16_t)(crc << 1 ^ (crc >> 15 ? 0x1021 : 0));
    return crc;
}

int pl_packet(const uint8_t *frame, size_t len, uint8_t *buf, size_t cap, size_t *packet_len)
{
    size_t block = 0, at = 1; /* places of the block and of the next byte */
    uint16_t crc = 0xffff;
    if (len > PL_MAX_FRAME)
        return PL_ERR_RANGE;
    if (cap < len + CRC_BYTES + (len + CRC_BYTES) / (BLOCK_MAX - 1) + 2)
        return PL_ERR_SPACE;
    for (size_t i = 0; i < len + CRC_BYTES; i++) {
        uint8_t byte = (uint8_t)(i < len ? frame[i] : i == len ? crc >> 8 : crc & 0xff);
        if (i < len)
            crc = crc_add(crc, byte);
        if (at - block == BLOCK_MAX) {
            buf[block] = BLOCK_MAX;
            block = at++;
        }
        if (byte == 0) { /* COBS: the first byte of a block is the distance to the next zero */
            buf[block] = (uint8_t)(at - block);
            block = at++;
        } else {
            buf[at++] = byte;
        }
    }
    buf[block] = (uint8_t)(at - block);
    buf[at++] = 0;
    *packet_len = at;
    return PL_OK;
}

int pl_unpack(pl_unpacker *u, uint8_t byte)
{
    if (byte == 0) {
        uint16_t crc = 0xffff;
        bool is_empty = !u->started, is_whole = !u->bad && u->left == 0 && u->len > CRC_BYTES;
        for (size_t i = 0; is_whole && i < u->len; i++)
            crc = crc_add(crc, u->data[i]);
        size_t len = is_whole ? u->len - CRC_BYTES : 0;
        u->len = 0;
        u->left = 0;
        u->started = u->zero = u->bad = false;
        return is_empty ? 0 : is_whole && crc == 0 ? (int)len : PL_ERR_RANGE;
    }
    bool is_code = u->left == 0, has_byte = !is_code || (u->started && u->zero);
    u->started = true;
    if (has_byte && u->len == sizeof u->data)
        u->bad = true;
    else if (has_byte)
        u->data[u->len++] = is_code ? 0 : byte;
    if (is_code)
        u->zero = byte != BLOCK_MAX;
    u->left = (uint8_t)(is_code ? byte - 1 : u->left - 1);
    return 0;
}

