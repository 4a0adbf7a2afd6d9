#ifdef __cplusplus
extern "C" {
#endif

/* --- frames ------------------------------------------------------------------------------------------------- */

/* Results of a call. 1 to 8 are the reasons of the reject table; a receiver may send them in a `reject` message. */
enum {
    PL_OK = 0,
    PL_ERR_RANGE = -1, /* encoding: a value does not fit its field or column */
    PL_ERR_SPACE = -2, /* encoding: the buffer is too short; decoding: more rows than max_rows */
    PL_REPEATED = -3,  /* receiving on a host: already accepted; drop it silently */
    PL_ERR_CIPHER = -4 /* the message is confidential, and the channel has no cipher */
};

/* Encrypt a block with AES-128 (FIPS 197): hardware, or a library. `in` and `out` do not overlap. */
typedef void pl_aes128(const uint8_t key[16], const uint8_t in[16], uint8_t out[16]);

/* One direction of one device in one key epoch. Its contents are secret: pl_wipe it when it is no longer used. */
typedef struct {
    uint32_t inner[8], outer[8]; /* SHA-256 after HMAC's padded keys (RFC 2104) */
    uint8_t cipher_key[16];
    pl_aes128 *aes;
    uint8_t context[34];
    uint8_t context_len;
    uint8_t direction; /* 0 up, 1 down */
    uint8_t phase;
} pl_channel;

typedef struct {
    bool genuine; /* tag, flags and phase are right, and type and counter are set; also of a frame that is refused */
    uint8_t type;
    uint32_t counter;
    const uint8_t *body;
    size_t body_len;
    const uint8_t *tail; /* type, length, value, repeated; elective extensions only */
    size_t tail_len;
} pl_frame;

/* Prepare a channel. id_len is 1 to 32; PL_ERR_RANGE otherwise. `aes` is NULL on a device that neither sends nor receives
 * confidential messages (PL_CONFIDENTIAL). */
int pl_channel_init(pl_channel *ch, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction,
                    uint32_t epoch, pl_aes128 *aes);

/* Verify a frame and return its parts; `out` points into `data`, where an encrypted frame is decrypted. The caller checks
 * the counter. */
int pl_open(const pl_channel *ch, uint8_t *data, size_t len, pl_frame *out);

/* Complete the frame whose body is buf[PL_HEADER] to buf[end - 1] (with `tail`: body and TLV tail). *len is its length. A
 * confidential message is encrypted; the counter is its nonce, so none may be used for two frames. */
int pl_seal(const pl_channel *ch, uint8_t *buf, size_t cap, uint8_t type, uint32_t counter, size_t end, bool tail,
            size_t *len);

/* Overwrite secrets with zeros; compilers do not remove it. */
void pl_wipe(void *data, size_t len);

/* HMAC-SHA256 under a channel's key, for tests. */
void pl_mac(const pl_channel *ch, const uint8_t *data, size_t len, uint8_t digest[32]);

/* Receiver of one device's frames in one direction: checks tag, epoch and counter. It holds the device key: pl_wipe it
 * when it is no longer used. */
typedef struct {
    uint8_t key[32];
    uint8_t id[32];
    uint8_t id_len;
    uint32_t epoch;
    pl_channel channel;
    int64_t highest; /* highest counter accepted; -1: none. A device restores it from storage, and stores it before it acts */
    uint8_t *seen;   /* a host: (PL_REPLAY_WINDOW + 7) / 8 bytes; a device: NULL */
} pl_receiver;

/* direction 0 (a host receives up) needs `seen`; direction 1 (a device receives down) does not. */
int pl_receiver_init(pl_receiver *r, const uint8_t key[32], const uint8_t *id, size_t id_len, int direction,
                     uint32_t epoch, uint8_t *seen, pl_aes128 *aes);

/* Like pl_open, but the first authentic frame of the next epoch begins it, and its counter is taken before its tail and
 * type are read, whatever they hold. Returns PL_OK, PL_REPEATED, PL_ERR_CIPHER or a reason. */
int pl_receive(pl_receiver *r, uint8_t *data, size_t len, pl_frame *out);

/* Limits the rate of `reject` messages to one peer. Begin with all members zero. */
typedef struct {
    int64_t next_ms, next_replay_ms;
} pl_reject_gate;

/* Whether a frame that pl_receive, pl_decode or pl_track_decode refused for this reason is answered with a `reject`. now_ms
 * is the time of any clock that does not go back. */
bool pl_may_reject(pl_reject_gate *gate, const pl_frame *frame, int reason, int64_t now_ms);

/* --- scalar messages ---------------------------------------------------------------------------------------- */

/* Decode the body of any scalar message; an unknown field holds its PL_..._UNKNOWN code. */
int pl_decode(uint8_t type, const uint8_t *body, size_t len, pl_message *out);

/* Write the body of out->type at buf; *len is its length. */
int pl_encode(const pl_message *in, uint8_t *buf, size_t cap, size_t *len);

/* --- position batches --------------------------------------------------------------------------------------- */

#define PL_UNKNOWN (-(1 << 30)) /* in a row: the value is not known */

/* A position in device units: see enum pl_column. */
typedef struct {
    int64_t time_ms; /* unix time */
    int32_t value[PL_COLUMNS - 1];
} pl_row;

/* Decode a batch into rows[0] to rows[*count - 1]; PL_ERR_SPACE if it has more than max_rows rows. */
int pl_track_decode(const uint8_t *body, size_t len, pl_row *rows, size_t max_rows, size_t *count, int *resolution);

/* Encode 1 to PL_MAX_BATCH rows within six days of each other. resolution is 5, 6 or 7; bit j of `omit` omits optional
 * column j. Needs at most 1.5 KB of stack. */
int pl_track_encode(const pl_row *rows, size_t count, int resolution, bool rice, unsigned omit, uint8_t *buf, size_t cap,
                    size_t *len);

/* --- serial lines ------------------------------------------------------------------------------------------- */

#define PL_MAX_PACKET (PL_MAX_FRAME + 2 + (PL_MAX_FRAME + 2) / 254 + 2)

/* Write the packet of a frame, with CRC, COBS and the zero byte at its end. PL_MAX_PACKET bytes are enough for `buf`. */
int pl_packet(const uint8_t *frame, size_t len, uint8_t *buf, size_t cap, size_t *packet_len);

/* Finds frames in the bytes from a serial line. Begin with all members zero. */
typedef struct {
    uint8_t data[PL_MAX_FRAME + 2]; /* the frame, then its CRC */
    size_t len;
    uint8_t left;            /* bytes up to the end of the COBS block */
    bool started, zero, bad; /* a packet has begun; a zero follows the block; the packet is too long */
} pl_unpacker;

/* Take a byte. Returns the length of the frame in u->data that it completes, 0, or PL_ERR_RANGE at the end of an invalid
 * packet. */
int pl_unpack(pl_unpacker *u, uint8_t byte);

#ifdef __cplusplus
}
#endif

