// Image files (protocol/IMAGE.md): the header, the digests and the signature. Everything is checked before a port is opened.
import { ascii, concat, equal, hex, numberAt, sha256 } from "./bytes.js";
import { FlasherError, RefusedError } from "./errors.js";

export const HEADER_BYTES = 256;
const SIGNED_BYTES = 192;
const CONTENT_MAX = 1 << 24;
const KINDS = { 1: "platform", 2: "agent", 3: "agent delta" };
const AGENT = 2, DELTA = 3;
const DOMAIN = ascii("patrolink image 1\0");
const HALF_ORDER = "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8";
const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const COPY_AGAIN = "it is truncated or damaged: have the image served again";

/** Return the fields of a header. Throws FlasherError if the data is not a header of this format. */
export function unpackHeader(data) {
  const wrong = why => new FlasherError(`This is not an image (${why}); serve one of \`patrolink image build\` and sign`);
  const text = (offset, length, name) => {
    const value = String.fromCharCode(...data.subarray(offset, offset + length)).replace(/\0+$/, "");
    if (!/^[\x21-\x7e]+$/.test(value)) throw wrong(`${name} is not printable ASCII without spaces`);
    return value;
  };
  if (data.length < HEADER_BYTES) throw wrong(`${data.length} bytes, but an image header has ${HEADER_BYTES}`);
  if (!equal(data.subarray(0, 4), ascii("PLIM"))) throw wrong("does not begin with PLIM");
  if (data[4] !== 1) throw wrong(`format ${data[4]}, but this page reads format 1`);
  if (numberAt(data, 6, 2) || numberAt(data, 14, 2) || numberAt(data, 188, 4)) throw wrong("a reserved byte is not zero");
  const header = {
    kind: data[5], rollback: numberAt(data, 8, 4), minimumPlatform: numberAt(data, 12, 2), size: numberAt(data, 16, 4),
    sha256: data.slice(20, 52), baseSha256: data.slice(52, 84),
    payloadSize: numberAt(data, 84, 4), payloadSha256: data.slice(88, 120),
    board: text(120, 24, "board"), architecture: text(144, 12, "architecture"), version: text(156, 24, "version"),
    keyId: hex(data.subarray(180, 188)), signature: data.slice(SIGNED_BYTES, HEADER_BYTES),
  };
  if (!(header.kind in KINDS)) throw wrong(`unknown kind ${header.kind} of image`);
  for (const name of ["size", "payloadSize"]) {
    if (header[name] < 1 || header[name] > CONTENT_MAX) throw wrong(`${name} is ${header[name]}, outside 1 to ${CONTENT_MAX}`);
  }
  if (header.kind !== DELTA) {
    if (header.baseSha256.some(byte => byte)) throw wrong("only a delta has a base");
    if (header.size !== header.payloadSize || !equal(header.sha256, header.payloadSha256)) {
      throw wrong("content and payload differ, but only those of a delta may");
    }
  }
  if (hex(header.signature.subarray(32)) > HALF_ORDER) throw wrong("s of the signature is above half the order");
  return header;
}

/** Return the release keys of a trust store in PEM format, by key id. */
export async function importReleaseKeys(pem) {
  const keys = new Map();
  for (const [, body] of pem.matchAll(/-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----/g)) {
    const der = Uint8Array.from(atob(body.replace(/\s/g, "")), character => character.charCodeAt(0));
    const key = await crypto.subtle.importKey("spki", der, ECDSA, true, ["verify"]);
    const point = new Uint8Array(await crypto.subtle.exportKey("raw", key));
    keys.set(hex((await sha256(point)).subarray(0, 8)), key);
  }
  return keys;
}

/** An agent image whose digests and signature are valid. */
export class AgentImage {
  constructor(header, headerBytes, content) {
    Object.assign(this, { header, headerBytes, content });
  }

  /** Check the content of a file. Throws FlasherError if it must not be written to any device. */
  static async verified(data, keys) {
    const header = unpackHeader(data), content = data.slice(HEADER_BYTES);
    if (header.kind !== AGENT) {
      throw new FlasherError(`This is an image of kind ${KINDS[header.kind]}; the page writes agent images: \`patrolink flash\` `
        + "writes platform images, and deltas go over the air");
    }
    if (content.length !== header.payloadSize) {
      throw new FlasherError(`The header says ${header.payloadSize} bytes, the file has ${content.length}; ${COPY_AGAIN}`);
    }
    if (!equal(await sha256(content), header.payloadSha256)) {
      throw new FlasherError(`The content does not have the SHA-256 of the header; ${COPY_AGAIN}`);
    }
    const key = keys.get(header.keyId), signed = concat(DOMAIN, data.subarray(0, SIGNED_BYTES));
    const why = !header.signature.some(byte => byte) ? "unsigned" : !key ? `unknown key ${header.keyId}`
      : await crypto.subtle.verify(ECDSA, key, header.signature, signed) ? "" : "invalid";
    if (why) throw new FlasherError(`Signature: ${why}; use an image that is signed with a release key of the trust store`);
    return new AgentImage(header, data.slice(0, HEADER_BYTES), content);
  }

  get label() {
    return `agent ${this.header.version} for ${this.header.board}`;
  }

  /** Compare the header with what a device says of itself. Throws RefusedError if the image is for another device. */
  checkFits(device) {
    const { board, architecture, minimumPlatform, rollback, keyId } = this.header;
    const build = `\`make image BOARD=${device.board}\` builds firmware of its board`;
    if (device.board !== board) throw new RefusedError(`The image is for board ${board}, but this is ${device.board}; ${build}`);
    if (device.architecture !== architecture) {
      throw new RefusedError(`The image has code for ${architecture}, but this board runs ${device.architecture}; ${build}`);
    }
    if (minimumPlatform > device.platform) {
      throw new RefusedError(`The image needs platform ${minimumPlatform}, but the board has ${device.platform}; `
        + "flash its platform image first");
    }
    if (rollback < device.rollbackFloor) {
      throw new RefusedError(`Rollback number ${rollback} of the image is below the floor of the device, `
        + `${device.rollbackFloor}; flash a newer image`);
    }
    if (!device.releaseKeys.includes(keyId)) {
      throw new RefusedError(`The image is signed with release key ${keyId}, but the platform of the board accepts `
        + `${device.releaseKeys.join(", ") || "no key at all"}; sign it with such a key, or flash a platform with yours`);
    }
  }
}
