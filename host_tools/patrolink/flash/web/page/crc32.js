// CRC-32 of ISO-HDLC, as in zlib.

export const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let register = byte;
  for (let bit = 0; bit < 8; bit++) register = register & 1 ? register >>> 1 ^ 0xedb88320 : register >>> 1;
  return register;
});

/** Return the CRC-32 of data, an unsigned number; `start` is that of the bytes before it. */
export function crc32(data, start = 0) {
  let register = ~start;
  for (const byte of data) register = TABLE[(register ^ byte) & 0xff] ^ register >>> 8;
  return ~register >>> 0;
}
