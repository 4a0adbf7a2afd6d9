// Uint8Array helpers; all numbers are little-endian.

export const ascii = text => new TextEncoder().encode(text);

export const hex = data => Array.from(data, byte => byte.toString(16).padStart(2, "0")).join("");

/** Return the bytes of numbers that are given as [value, length] pairs. */
export function pack(...numbers) {
  const data = [];
  for (const [value, length] of numbers) {
    for (let i = 0; i < length; i++) data.push(Math.floor(value / 256 ** i) % 256);
  }
  return Uint8Array.from(data);
}

/** Return an unsigned number of up to 4 bytes. */
export function numberAt(data, offset, length) {
  let value = 0;
  for (let i = length - 1; i >= 0; i--) value = value * 256 + data[offset + i];
  return value;
}

export function concat(...parts) {
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of parts) {
    data.set(part, end);
    end += part.length;
  }
  return data;
}

export const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Return the offset of the first occurrence of `wanted` in `data`, or -1. */
export function find(data, wanted) {
  for (let at = data.indexOf(wanted[0]); at >= 0; at = data.indexOf(wanted[0], at + 1)) {
    if (equal(data.subarray(at, at + wanted.length), wanted)) return at;
  }
  return -1;
}

export async function sha256(data) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}
