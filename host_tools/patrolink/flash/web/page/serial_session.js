// Requests to the serial receiver of a board; device/agent/update/serial_receiver.py describes the frames.
import { concat, numberAt, pack } from "./bytes.js";
import { crc32 } from "./crc32.js";
import { Deflater } from "./deflate.js";
import { DeadlineError, DeviceError, RefusedError } from "./errors.js";

export const BLOCK_BYTES = 4096;
export const DIGEST_BYTES = 8;
const NUMBERS = 1 << 16;
const START = 0xa5;
const [DONE, REPEAT, REFUSED, FAILED] = Array.from("ANRF", letter => letter.charCodeAt(0));
const [INFO, DIGEST, BEGIN, INDEX, BLOCKS, BLOCK, FINISH, RESTART] = Array(8).keys();
const INDEX_BYTES = 1024, INDEX_ENTRIES = 128, INDEX_ENTRY_BYTES = 8;
const DIGESTS = 64, SHA256_BYTES = 32;
const LITERAL = 0xffffffff;
const FILLER = new Uint8Array(BLOCK_BYTES + 256); // longer than any frame
const ANSWER_HEAD_BYTES = 9, ANSWER_MAX = 4096;
const ATTEMPTS = 8, SILENT = 4, OPEN_SILENT = 2; // the latter two: attempts without an answer
const ANSWER_MS = 5000; // time in which the board answers a frame
const WORK_MS = 60_000; // time in which it verifies a signature, or hashes its content

/** Return a frame: `size` bytes of a request, deflated to `data`. */
export function frame(number, size, data) {
  const head = pack([number, 2], [data.length, 2], [size, 2]);
  return concat([START], head, pack([crc32(data, crc32(head)), 4]), data);
}

export class SerialSession {
  #deflater = new Deflater();

  /** The first number must be random: a late answer to another frame of that number would be taken for the reply. */
  constructor(link, number) {
    this.link = link;
    this.number = number;
  }

  /** Start the session. Throws DeadlineError if no receiver answers. */
  async open(limitMs) {
    const number = this.#nextNumber();
    await this.#exchange(frame(number, 0, []), number, limitMs, true);
  }

  /** Return what the board says of itself. */
  async info() {
    const unknown = new DeviceError("The board describes itself in no known form; flash its platform first");
    const text = new TextDecoder().decode(await this.#request([INFO], ANSWER_MS));
    let info;
    try {
      info = JSON.parse(text);
    } catch {
      throw unknown;
    }
    if (info === null || typeof info !== "object") throw unknown;
    return info;
  }

  /** Return size and SHA-256 of the present content, computed by the board. */
  async digest() {
    const reply = await this.#request([DIGEST], WORK_MS, 4 + SHA256_BYTES);
    return { size: numberAt(reply, 0, 4), sha256: reply.slice(4) };
  }

  /** Offer an image; returns the size of the content of which blocks can be copied. */
  async begin(header) {
    return numberAt(await this.#request([BEGIN, ...header], WORK_MS, 4), 0, 4);
  }

  /** Return the index of the content that can be copied, of `size` bytes. */
  async index(size) {
    const count = Math.floor(size / INDEX_BYTES), replies = [];
    for (let first = 0; first < count; first += INDEX_ENTRIES) {
      const replyBytes = Math.min(INDEX_ENTRIES, count - first) * INDEX_ENTRY_BYTES;
      replies.push(await this.#request([INDEX, ...pack([first, 2])], WORK_MS, replyBytes));
    }
    return concat(...replies);
  }

  /** Return the first bytes of the SHA-256 of each block that lies where the new content goes. */
  async writtenDigests(blocks) {
    const digests = [];
    for (let first = 0; first < blocks; first += DIGESTS) {
      const count = Math.min(DIGESTS, blocks - first);
      const data = await this.#request([BLOCKS, ...pack([first, 2], [count, 2])], WORK_MS, count * DIGEST_BYTES);
      for (let at = 0; at < data.length; at += DIGEST_BYTES) digests.push(data.subarray(at, at + DIGEST_BYTES));
    }
    return digests;
  }

  /** Send the parts of a block of the content. */
  async writeBlock(number, content, parts) {
    const request = [[BLOCK], pack([number, 2])];
    for (const { start, length, source } of parts) {
      request.push(pack([source ?? LITERAL, 4], [length, 2]));
      if (source === null) request.push(content.subarray(start, start + length));
    }
    await this.#request(concat(...request), WORK_MS);
  }

  /** Have the board verify its new content and put it into service at the next start. */
  async finish() {
    await this.#request([FINISH], WORK_MS);
  }

  /** Reset the board. */
  async restart() {
    await this.#request([RESTART], ANSWER_MS);
  }

  async #request(request, limitMs, replyBytes = null) {
    const data = this.#deflater.compress(Uint8Array.from(request));
    const number = this.#nextNumber();
    const [status, reply] = await this.#exchange(frame(number, request.length, data), number, limitMs);
    const text = new TextDecoder().decode(reply);
    if (status === FAILED) throw new DeviceError(`${text}; what the board held before is unchanged, connect again`);
    if (status === REFUSED) throw new RefusedError(`The board refuses the image: ${text}; the board is unchanged`);
    if (replyBytes !== null && reply.length !== replyBytes) {
      throw new DeviceError(`${reply.length} bytes of reply to request ${request[0]}, expected ${replyBytes}; the board runs another `
        + "version of the receiver: flash its platform first");
    }
    return reply;
  }

  #nextNumber() {
    const number = this.number;
    this.number = (number + 1) % NUMBERS;
    return number;
  }

  /** Send a frame until it is answered; returns status and data of the answer. */
  async #exchange(data, number, limitMs, isNew = false) {
    for (let attempt = 0, silent = 0; attempt < ATTEMPTS; attempt++) {
      await this.link.write(data);
      let status, answered, reply;
      try {
        [status, answered, reply] = await this.#answer(number, limitMs);
      } catch (e) {
        if (!(e instanceof DeadlineError) || ++silent === (isNew ? OPEN_SILENT : SILENT)) throw e;
        await this.link.write(FILLER); // ends the wait for bytes that were lost
        continue;
      }
      if (answered === number && [DONE, REFUSED, FAILED].includes(status)) return [status, reply];
      if (answered !== number && !isNew) break; // the board is not in this session
    }
    throw new DeviceError("The line damages too much data; try another cable, then connect again");
  }

  /** Return [status, number, data] of the next answer; answers to earlier frames are skipped. */
  async #answer(number, limitMs) {
    const deadline = performance.now() + limitMs;
    const left = () => Math.max(0, deadline - performance.now());
    for (;;) {
      await this.link.readUntil(left(), [START]);
      const head = await this.link.read(ANSWER_HEAD_BYTES, left());
      const length = numberAt(head, 3, 2), answered = numberAt(head, 1, 2);
      if (length > ANSWER_MAX) continue;
      const data = await this.link.read(length, left());
      const isWhole = crc32(data, crc32(head.subarray(0, 5))) === numberAt(head, 5, 4);
      if (isWhole && (head[0] === REPEAT || answered === number)) return [head[0], answered, data];
    }
  }
}
