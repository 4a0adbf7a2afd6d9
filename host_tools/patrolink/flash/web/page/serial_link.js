// Bytes to and from a board on a WebSerial port: every read and write has a deadline, and ends when the operator stops.
import { concat, find } from "./bytes.js";
import { DeadlineError, DeviceError, StoppedError } from "./errors.js";

const OPENING = { baudRate: 115_200, bufferSize: 65_536 };
const WRITE_MS = 10_000;

export class SerialLink {
  #port;
  #input = new Uint8Array(0);
  #reader = null;
  #wake = () => {};
  #stopped = false;
  #ignoresStop = false;
  #closing = false;
  #broken = "";
  #pumping;

  /** Open a port. Throws DeviceError if that is not possible. */
  static async open(port) {
    try {
      await port.open(OPENING);
    } catch (e) {
      throw new DeviceError(`The port cannot be opened (${e.message}); end other programs that use it, plug the device in again, `
        + "then connect again");
    }
    return new SerialLink(port);
  }

  constructor(port) {
    this.#port = port;
    this.#pumping = this.#pump();
  }

  async write(data) {
    this.#check();
    if (!this.#port.writable) throw this.#breakage();
    const writer = this.#port.writable.getWriter();
    try {
      await withDeadline(writer.write(data), WRITE_MS,
        () => new DeadlineError("The board takes no data; check its cable, then connect again"));
    } catch (e) {
      if (e instanceof DeadlineError) {
        writer.abort().catch(() => {}); // otherwise the port could not be closed
        throw e;
      }
      this.#broken ||= e.message;
      throw this.#breakage();
    } finally {
      writer.releaseLock();
    }
  }

  /** Return the next bytes. Throws DeadlineError if fewer come in time; they stay in the input. */
  async read(length, limitMs) {
    await this.#fill(data => data.length >= length, limitMs);
    return this.#take(length);
  }

  /** Return the bytes up to the first of `ends`, and that. Throws DeadlineError if none comes in time; what came stays in the input. */
  async readUntil(limitMs, ...ends) {
    let stop = Infinity;
    const isThere = data => {
      const found = ends.map(end => [find(data, end), end.length]).filter(([at]) => at >= 0);
      stop = Math.min(...found.map(([at, length]) => at + length));
      return found.length > 0;
    };
    await this.#fill(isThere, limitMs);
    return this.#take(stop);
  }

  /** Let reads and writes end with StoppedError. */
  stop() {
    this.#stopped = true;
    this.#wake();
  }

  /** Let reads and writes end by their deadlines only: for the last words to the board after a stop. */
  ignoreStop() {
    this.#ignoresStop = true;
  }

  /** Close the port; never throws. */
  async close() {
    this.#closing = true;
    await this.#reader?.cancel().catch(() => {});
    await this.#pumping;
    await this.#port.close().catch(() => {}); // the device is gone
  }

  #take(length) {
    const data = this.#input.slice(0, length);
    this.#input = this.#input.slice(length);
    return data;
  }

  async #pump() {
    while (this.#port.readable && !this.#closing && !this.#broken) { // errors of the line give a new stream
      this.#reader = this.#port.readable.getReader();
      try {
        for (;;) {
          const { value, done } = await this.#reader.read();
          if (done) break;
          this.#input = concat(this.#input, value);
          this.#wake();
        }
        if (!this.#closing) this.#broken = "it was closed";
      } catch (e) {
        if (e.name === "NetworkError") this.#broken = e.message;
      } finally {
        this.#reader.releaseLock();
      }
    }
    this.#broken ||= "the device is gone";
    this.#wake();
  }

  async #fill(isEnough, limitMs) {
    const deadline = performance.now() + limitMs;
    while (!isEnough(this.#input)) {
      this.#check();
      if (this.#broken) throw this.#breakage();
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new DeadlineError(`No answer within ${Math.ceil(limitMs / 1000)} s; check cable and power, and that the board runs `
          + "MicroPython, then connect again");
      }
      await new Promise(resolve => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  #check() {
    if (this.#stopped && !this.#ignoresStop) throw new StoppedError("Stopped by the operator; the device starts with the image that it had");
  }

  #breakage() {
    return new DeviceError(`The connection broke (${this.#broken || "the device is gone"}); plug the device in again, then `
      + "connect again: what was written is not sent twice");
  }
}

async function withDeadline(promise, limitMs, error) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(error()), limitMs);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
