// The page: loads and checks the image that lies beside it, then flashes one device at a time.
import { DeviceFlow } from "./device_flow.js";
import { DeviceError, FlasherError, StoppedError } from "./errors.js";
import { AgentImage, importReleaseKeys } from "./image.js";
import { SerialMethod } from "./serial_method.js";
import { $, showFatal, showFlow, showImage, showProgress } from "./view.js";

const KEEP_ALIVE_MS = 2000; // below the watchdog of every board
const DECISION_MS = 300_000; // a device is not held in the receiver for ever

class Flasher {
  #image;
  #flow = new DeviceFlow(showFlow);
  #method = null;
  #isConnecting = false;
  #decide = () => {};

  constructor(image) {
    this.#image = image;
    $("connect").onclick = () => this.#connect();
    $("write").onclick = () => this.#decide("write");
    $("stop").onclick = () => this.#stop();
    addEventListener("beforeunload", e => {
      if (this.#flow.state === "writing") e.preventDefault();
    });
    showFlow(this.#flow);
  }

  async #connect() {
    if (this.#isConnecting) return; // a second click, while the browser asks for the port
    this.#isConnecting = true;
    try {
      await this.#connectOnce();
    } finally {
      this.#isConnecting = false;
    }
  }

  async #connectOnce() {
    const flow = this.#flow = new DeviceFlow(showFlow);
    let error = null;
    try {
      const port = await navigator.serial.requestPort();
      const method = this.#method = new SerialMethod(port, this.#image);
      try {
        await this.#flash(flow, method);
      } finally {
        await method.close();
      }
    } catch (e) {
      if (e.name === "NotFoundError") return; // the operator has chosen no port
      if (!(e instanceof FlasherError)) console.error(e);
      error = e instanceof FlasherError ? e : new DeviceError(`${e}; connect again, and report this error if it comes back`);
    }
    if (error) flow.ended(error);
    else flow.advance();
  }

  /** Execute the steps of a device up to `releasing`. */
  async #flash(flow, method) {
    flow.advance();
    flow.identified(await method.identify());
    flow.planned(method.plan(flow.device));
    if (!flow.plan.isUnchanged) {
      await this.#decision(method);
      flow.advance();
      flow.identified(await method.identify());
      const start = performance.now();
      await method.write((done, total) => showProgress(done, total, performance.now() - start));
      flow.advance();
      await method.verify();
      flow.advance();
    }
    await method.release();
  }

  /** Wait until the operator wants the image to be written, and keep the device in the receiver meanwhile. */
  async #decision(method) {
    const decision = new Promise(resolve => {
      this.#decide = resolve;
    });
    for (const end = performance.now() + DECISION_MS; performance.now() < end;) {
      const choice = await Promise.race([decision, new Promise(resolve => setTimeout(resolve, KEEP_ALIVE_MS))]);
      if (choice === "write") return;
      if (choice === "stop") break;
      await method.keepAlive();
    }
    throw new StoppedError("Nothing was written; connect the device again to write the image");
  }

  #stop() {
    this.#decide("stop");
    if (this.#flow.state !== "ready") this.#method.stop();
  }
}

async function load(name) {
  const response = await fetch(name, { cache: "no-store" }).catch(() => null);
  if (!response?.ok) {
    throw new FlasherError(`${name} cannot be loaded (${response ? `status ${response.status}` : "the server does not answer"}); start `
      + "the server again, or put the file beside this page");
  }
  return response;
}

async function start() {
  if (!window.isSecureContext) throw new FlasherError("Browsers reach devices from secure pages only; use https or 127.0.0.1");
  const keys = await importReleaseKeys(await (await load("trust.pem")).text());
  if (!keys.size) throw new FlasherError("trust.pem has no release key; serve the page with the trust store of your releases");
  const image = await AgentImage.verified(new Uint8Array(await (await load("agent.plimg")).arrayBuffer()), keys);
  showImage(image);
  if (!navigator.serial) {
    throw new FlasherError("This browser has no WebSerial; use Chrome, Edge or Opera on a computer, or `patrolink flash IMAGE PORT`");
  }
  new Flasher(image);
}

start().catch(e => {
  if (!(e instanceof FlasherError)) console.error(e);
  showFatal(e instanceof FlasherError ? e.message : `The page or its files are damaged (${e.message}); serve them again`);
});
