// G.711 A-law. Samples are floats from -1 to 1, 8000 per second.

export const RATE_HZ = 8000;
export const FRAME_SAMPLES = 160;  // 20 ms

const DECODED = Float32Array.from({ length: 256 }, (_, code) => {
  const bits = code ^ 0x55, exponent = bits >> 4 & 7, mantissa = (bits & 15) << 4;
  const level = exponent ? mantissa + 0x108 << exponent - 1 : mantissa + 8;
  return (bits & 0x80 ? level : -level) / 32768;
});

/** Return A-law as samples. */
export function decode(alaw) {
  return Float32Array.from(alaw, code => DECODED[code]);
}

/** Return samples as A-law. Samples outside of -1 to 1 are clipped. */
export function encode(samples) {
  return Uint8Array.from(samples, sample => {
    let level = Math.min(32767, Math.max(-32768, Math.round(sample * 32768))) >> 3;
    const sign = level >= 0 ? 0xd5 : 0x55;
    if (level < 0) level = -level - 1;
    if (level < 32) return level >> 1 ^ sign;
    const exponent = 31 - Math.clz32(level) - 4;
    return (exponent << 4 | level >> exponent & 15) ^ sign;
  });
}

/** Return the RMS of samples. */
export function rms(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}
