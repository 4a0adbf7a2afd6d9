// Method `serial`: an agent image over the console of a board, into a slot, by the receiver in its platform. The steps are those of
// host_tools/patrolink/flash/methods/serial_console.py.
import { ascii, equal, find, sha256 } from "./bytes.js";
import { blockParts } from "./copy_plan.js";
import { DeadlineError, DeviceError } from "./errors.js";
import * as rawRepl from "./raw_repl.js";
import { SerialLink } from "./serial_link.js";
import { BLOCK_BYTES, DIGEST_BYTES, SerialSession } from "./serial_session.js";

// What lies on the file system of the board, or in a slot, must not stand in for the modules of its platform.
export const PROGRAM = "import sys; sys.path[:] = ['.frozen']\nfrom app.serial_update import run; run()\n";
const READY = ascii("receiver ready\r\n"), ENDED = ascii("\x04"); // the latter: of the raw REPL
const REPL_MS = 5000, START_MS = 30_000, RECEIVER_MS = 2000;
const CONNECT_ATTEMPTS = 2;

export class SerialMethod {
  #port;
  #image;
  #link = null;
  #session = null;
  #isStopped = false;
  #present = null;

  constructor(port, image) {
    this.#port = port;
    this.#image = image;
  }

  /** Return what the device says of itself now. */
  async identify() {
    if (!this.#session) {
      this.#session = await this.#connect();
      this.#present = await this.#session.digest();
    }
    const info = await this.#session.info();
    const number = value => Number.isInteger(value) ? value : null;
    return {
      uniqueId: String(info.unique_id ?? ""), board: String(info.board ?? ""), architecture: String(info.architecture ?? ""),
      version: String(info.version ?? ""), rollback: number(info.rollback), rollbackFloor: number(info.rollback_floor) ?? 0,
      platform: number(info.platform) ?? 0, releaseKeys: Array.isArray(info.release_keys) ? info.release_keys.map(String) : [],
      contentSha256: this.#present.sha256, deviceId: info.configured ? String(info.device ?? "") : null,
    };
  }

  /** Return what would be written. Throws RefusedError if the image does not fit; nothing was erased. */
  plan(device) {
    this.#image.checkFits(device);
    const { header, label } = this.#image;
    const present = device.version ? `${device.version} (rollback number ${device.rollback})` : "no agent image";
    return {
      text: `${label}, ${header.size} bytes, over ${present}`,
      isUnchanged: equal(device.contentSha256, header.sha256) && device.rollback === header.rollback,
    };
  }

  /** Write the image; `report(done, total)` gets the progress in bytes. Blocks that the board has written are not sent again. */
  async write(report) {
    const session = this.#session, { content, headerBytes } = this.#image;
    const sourceBytes = await session.begin(headerBytes);
    const blocks = await blockParts(content, await session.index(sourceBytes), BLOCK_BYTES);
    const written = await session.writtenDigests(blocks.length);
    for (const [number, parts] of blocks.entries()) {
      const block = content.subarray(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES);
      if (!equal((await sha256(block)).subarray(0, DIGEST_BYTES), written[number])) {
        await session.writeBlock(number, content, parts);
      }
      report(Math.min(content.length, (number + 1) * BLOCK_BYTES), content.length);
    }
    await session.finish();
  }

  /** Read back what was written. Throws DeviceError if it differs from the image. */
  async verify() {
    const { size, sha256: digest } = await this.#session.digest();
    if (size !== this.#image.header.size || !equal(digest, this.#image.header.sha256)) {
      throw new DeviceError("The board does not hold the image after writing; its flash may be worn out; connect again");
    }
  }

  /** Start the device with its new image. */
  async release() {
    const session = this.#session;
    this.#session = null;
    await session.restart();
  }

  /** Feed the watchdog of a device that waits for the operator. */
  async keepAlive() {
    await this.#session.info();
  }

  /** End the step in progress with StoppedError. */
  stop() {
    this.#isStopped = true;
    this.#link?.stop();
  }

  /** Close the port: a board that is still in the receiver is started again. Never throws. */
  async close() {
    const session = this.#session;
    this.#session = null;
    if (!this.#link) return;
    this.#link.ignoreStop();
    await session?.restart().catch(() => {});
    await this.#link.close();
  }

  async #connect() {
    this.#link = await SerialLink.open(this.#port);
    if (this.#isStopped) this.#link.stop();
    let silence = null;
    for (let attempt = 0; attempt < CONNECT_ATTEMPTS; attempt++) {
      const session = new SerialSession(this.#link, crypto.getRandomValues(new Uint16Array(1))[0]);
      try {
        await rawRepl.enter(this.#link, REPL_MS);
        await rawRepl.start(this.#link, PROGRAM);
        if (find(await this.#link.readUntil(START_MS, READY, ENDED), READY) < 0) {
          throw new DeviceError("MicroPython answers, but its platform has no receiver of agent images; flash the platform image of "
            + "this board first");
        }
      } catch (e) {
        if (!(e instanceof DeadlineError)) throw e;
        silence ??= e; // unless a receiver runs already
      }
      try {
        await session.open(silence ? RECEIVER_MS : START_MS);
        return session;
      } catch (e) {
        if (!(e instanceof DeviceError) || !silence) throw e;
      }
    }
    throw silence;
  }
}
