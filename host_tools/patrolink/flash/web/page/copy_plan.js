// What of a new content a device has already: blocks of its present content at any offset, found by rolling CRC-32.
// As host_tools/patrolink/flash/copy_plan.py, which describes the method.
import { hex, numberAt, sha256 } from "./bytes.js";
import { crc32, TABLE } from "./crc32.js";

export const INDEX_BYTES = 1024;
const ENTRY_BYTES = 8, CRC_BYTES = 4;

/**
 * Return for each block of a content its parts, in order: {start, length, source}. `source` is the offset in the content of the
 * device, null if it does not have this part.
 */
export async function blockParts(content, index, blockBytes) {
  const blocks = Array.from({ length: Math.ceil(content.length / blockBytes) }, () => []);
  for (let { start, length, source } of await parts(content, index)) {
    while (length) {
      const block = blocks[Math.floor(start / blockBytes)], last = block.at(-1);
      const n = Math.min(length, blockBytes - start % blockBytes);
      if (last && last.source !== null && source !== null && last.source + last.length === source) last.length += n;
      else block.push({ start, length: n, source });
      start += n;
      length -= n;
      if (source !== null) source += n;
    }
  }
  return blocks;
}

async function parts(content, index) {
  const entries = new Map(), known = new Set();
  for (let at = 0; at < index.length; at += ENTRY_BYTES) {
    entries.set(hex(index.subarray(at, at + ENTRY_BYTES)), at / ENTRY_BYTES);
    known.add(numberAt(index, at, CRC_BYTES));
  }
  const result = [];
  let end = 0;
  for (const [start, crc] of windows(content, known)) {
    if (start < end) continue;
    const digest = await sha256(content.subarray(start, start + INDEX_BYTES));
    const crcBytes = Uint8Array.from({ length: CRC_BYTES }, (_, i) => crc >>> 8 * i);
    const block = entries.get(hex(crcBytes) + hex(digest.subarray(0, ENTRY_BYTES - CRC_BYTES)));
    if (block === undefined) continue;
    if (start > end) result.push({ start: end, length: start - end, source: null });
    result.push({ start, length: INDEX_BYTES, source: block * INDEX_BYTES });
    end = start + INDEX_BYTES;
  }
  if (end < content.length) result.push({ start: end, length: content.length - end, source: null });
  return result;
}

/** Yield [offset, CRC-32] of the windows whose CRC-32 is known. */
function* windows(content, known) {
  if (!known.size || content.length < INDEX_BYTES) return;
  const zeros = new Uint8Array(INDEX_BYTES), offset = crc32(zeros);
  const leaving = Int32Array.from({ length: 256 }, (_, byte) => crc32([byte, ...zeros]) ^ crc32([0, ...zeros]));
  const first = crc32(content.subarray(0, INDEX_BYTES));
  if (known.has(first)) yield [0, first];
  let register = first ^ offset;
  for (let end = INDEX_BYTES; end < content.length; end++) {
    register = TABLE[(register ^ content[end]) & 0xff] ^ register >>> 8 ^ leaving[content[end - INDEX_BYTES]];
    const crc = (register ^ offset) >>> 0;
    if (known.has(crc)) yield [end - INDEX_BYTES + 1, crc];
  }
}
