// Compressor of raw deflate (RFC 1951) with a window of 16 KB. CompressionStream of browsers cannot flush, and has a window
// of 32 KB, which boards lack the memory for. A part becomes one block with dynamic Huffman codes, or is stored.
import { concat } from "./bytes.js";

const WINDOW_BYTES = 16_384;
const MATCH_MIN = 3, MATCH_MAX = 258;
const CHAIN_MAX = 256; // earlier places that are compared
const HASH_BITS = 13;
const END = 256, FIRST_LENGTH = 257;
const LITERALS = 286, DISTANCES = 30;
const CODE_BITS_MAX = 15, LENGTH_CODE_BITS_MAX = 7;
const LENGTH_CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]; // 3.2.7

/** Return [symbol, extra bits, value of the extra bits] by value, for symbols with the lowest value and extra bits of each. */
function symbolTable(size, first, lowest, extraBits) {
  const table = [];
  let symbol = 0;
  for (let value = lowest[0]; value < size; value++) {
    while (symbol + 1 < lowest.length && value >= lowest[symbol + 1]) symbol++;
    table[value] = [first + symbol, extraBits[symbol], value - lowest[symbol]];
  }
  return table;
}

const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]; // 3.2.5
const DISTANCE_EXTRA = Array.from({ length: DISTANCES }, (_, symbol) => Math.max(0, (symbol >> 1) - 1));
const lowestValues = (first, extra) => extra.map((_, i) => extra.slice(0, i).reduce((sum, bits) => sum + 2 ** bits, first));
const LENGTH_LOWEST = lowestValues(MATCH_MIN, LENGTH_EXTRA);
LENGTH_LOWEST[28] = MATCH_MAX;
const LENGTH_SYMBOLS = symbolTable(MATCH_MAX + 1, FIRST_LENGTH, LENGTH_LOWEST, LENGTH_EXTRA);
const DISTANCE_SYMBOLS = symbolTable(WINDOW_BYTES + 1, 0, lowestValues(1, DISTANCE_EXTRA), DISTANCE_EXTRA);

export class Deflater {
  #history = new Uint8Array(0);

  /** Return the compressed data of the next part of the stream, 1 to 65535 bytes, flushed to a whole byte. */
  compress(part) {
    const data = concat(this.#history, part);
    const block = compressedBlock(tokens(data, this.#history.length));
    this.#history = data.slice(-WINDOW_BYTES);
    return block.length < part.length + 5 ? block : storedBlock(part);
  }
}

function storedBlock(data) {
  const length = [data.length & 0xff, data.length >> 8];
  return concat([0, ...length, ...length.map(byte => byte ^ 0xff)], data);
}

/** Return literals as numbers, and matches as [length, distance], for the data from `start` on. */
function tokens(data, start) {
  const newest = new Int32Array(1 << HASH_BITS).fill(-1), earlier = new Int32Array(data.length).fill(-1);
  const hash = at => Math.imul(data[at] << 16 | data[at + 1] << 8 | data[at + 2], 0x9e3779b1) >>> 32 - HASH_BITS;
  let entered = 0;

  function longest(at) {
    for (; entered < at && entered + MATCH_MIN <= data.length; entered++) {
      const key = hash(entered);
      earlier[entered] = newest[key];
      newest[key] = entered;
    }
    const limit = Math.min(MATCH_MAX, data.length - at);
    let best = 0, distance = 0;
    if (limit < MATCH_MIN) return [best, distance];
    for (let place = newest[hash(at)], n = 0; place >= 0 && n < CHAIN_MAX; place = earlier[place], n++) {
      if (at - place > WINDOW_BYTES) break;
      if (data[place + best] !== data[at + best]) continue;
      let length = 0;
      while (length < limit && data[place + length] === data[at + length]) length++;
      if (length > best) [best, distance] = [length, at - place];
      if (best === limit) break;
    }
    return [best, distance];
  }

  const result = [];
  let at = start, match = at < data.length ? longest(at) : null;
  while (at < data.length) {
    const next = at + 1 < data.length ? longest(at + 1) : [0, 0];
    if (match[0] < MATCH_MIN || next[0] > match[0]) {
      result.push(data[at]);
      at++;
      match = next;
    } else {
      result.push(match);
      at += match[0];
      if (at < data.length) match = longest(at);
    }
  }
  return result;
}

/** Return a block with dynamic Huffman codes (3.2.7), and an empty stored block that ends at a whole byte. */
function compressedBlock(parts) {
  const literalCounts = new Array(LITERALS).fill(0), distanceCounts = new Array(DISTANCES).fill(0);
  literalCounts[END] = 1;
  for (const token of parts) {
    if (typeof token === "number") literalCounts[token]++;
    else {
      literalCounts[LENGTH_SYMBOLS[token[0]][0]]++;
      distanceCounts[DISTANCE_SYMBOLS[token[1]][0]]++;
    }
  }
  const literals = huffman(literalCounts, CODE_BITS_MAX), distances = huffman(distanceCounts, CODE_BITS_MAX);
  const writer = new BitWriter();
  writer.bits(0, 1);
  writer.bits(2, 2);
  writeCodes(writer, literals.lengths, distances.lengths);
  for (const token of parts) {
    if (typeof token === "number") writer.code(literals, token);
    else {
      writer.symbol(literals, LENGTH_SYMBOLS[token[0]]);
      writer.symbol(distances, DISTANCE_SYMBOLS[token[1]]);
    }
  }
  writer.code(literals, END);
  writer.bits(0, 3);
  return concat(writer.finish(), [0, 0, 0xff, 0xff]);
}

function writeCodes(writer, literalLengths, distanceLengths) {
  const literalCount = Math.max(257, used(literalLengths)), distanceCount = Math.max(1, used(distanceLengths));
  const runs = runLengths([...literalLengths.slice(0, literalCount), ...distanceLengths.slice(0, distanceCount)]);
  const counts = new Array(19).fill(0);
  for (const [symbol] of runs) counts[symbol]++;
  const code = huffman(counts, LENGTH_CODE_BITS_MAX);
  const order = LENGTH_CODE_ORDER.map(symbol => code.lengths[symbol]), orderCount = Math.max(4, used(order));
  writer.bits(literalCount - 257, 5);
  writer.bits(distanceCount - 1, 5);
  writer.bits(orderCount - 4, 4);
  for (const bits of order.slice(0, orderCount)) writer.bits(bits, 3);
  for (const run of runs) writer.symbol(code, run);
}

const used = lengths => lengths.findLastIndex(bits => bits > 0) + 1;

/** Return code lengths as [symbol, extra bits, value of the extra bits], with 16 to 18 for runs. */
function runLengths(lengths) {
  const runs = [];
  for (let at = 0; at < lengths.length;) {
    const value = lengths[at];
    let count = 1;
    while (at + count < lengths.length && lengths[at + count] === value) count++;
    at += count;
    if (value) {
      runs.push([value, 0, 0]);
      count--;
    }
    while (count >= 3) {
      const n = Math.min(count, value ? 6 : 138);
      runs.push(value ? [16, 2, n - 3] : n > 10 ? [18, 7, n - 11] : [17, 3, n - 3]);
      count -= n;
    }
    for (; count > 0; count--) runs.push([value, 0, 0]);
  }
  return runs;
}

/** Return the lengths and codes, in order of transmission, of a canonical Huffman code (3.2.2) for symbols that occur. */
function huffman(counts, bitsMax) {
  let weights = counts;
  let lengths = codeLengths(weights);
  while (Math.max(...lengths) > bitsMax) {
    weights = weights.map(count => count + 1 >> 1); // flatter, and no symbol disappears
    lengths = codeLengths(weights);
  }
  const codes = new Array(counts.length).fill(0);
  let code = 0;
  for (let bits = 1; bits <= bitsMax; bits++, code <<= 1) {
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] === bits) codes[symbol] = reversed(code++, bits);
    }
  }
  return { lengths, codes };
}

function codeLengths(weights) {
  const lengths = new Array(weights.length).fill(0);
  const nodes = weights.flatMap((weight, symbol) => weight ? [{ weight, symbols: [symbol] }] : []);
  for (let symbol = 0; nodes.length < 2; symbol++) { // some decoders accept complete codes only
    if (!weights[symbol]) nodes.push({ weight: 0, symbols: [symbol] });
  }
  while (nodes.length > 1) {
    nodes.sort((a, b) => b.weight - a.weight);
    const [a, b] = nodes.splice(-2);
    const symbols = [...a.symbols, ...b.symbols];
    for (const symbol of symbols) lengths[symbol]++;
    nodes.push({ weight: a.weight + b.weight, symbols });
  }
  return lengths;
}

function reversed(code, bits) {
  let result = 0;
  for (let i = 0; i < bits; i++) result = result << 1 | code >> i & 1;
  return result;
}

class BitWriter {
  #bytes = [];
  #pending = 0;
  #count = 0;

  bits(value, count) {
    this.#pending |= value << this.#count;
    this.#count += count;
    for (; this.#count >= 8; this.#count -= 8, this.#pending >>>= 8) this.#bytes.push(this.#pending & 0xff);
  }

  code(code, symbol) {
    this.bits(code.codes[symbol], code.lengths[symbol]);
  }

  symbol(code, [symbol, extraBits, extra]) {
    this.code(code, symbol);
    this.bits(extra, extraBits);
  }

  finish() {
    if (this.#count) this.bits(0, 8 - this.#count);
    return this.#bytes;
  }
}
