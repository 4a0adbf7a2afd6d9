// The codec line protocol (protocol/vectors/README.md) in JavaScript: Node runs the C codec, compiled to WebAssembly.
//
//   clang --target=wasm32-wasi --sysroot=/usr -Os -o check.wasm protocol/vectors/check.c
//   node --no-warnings protocol/adapters/javascript/codec.mjs check.wasm
//
// The compiler is in Debian's packages clang, lld, wasi-libc and libclang-rt-dev-wasm32. A codec that is written in
// JavaScript takes the place of the module: it answers one line at a time.
import { openSync, readFileSync, readSync, writeSync } from "node:fs";
import { argv, exit } from "node:process";

const STDIN = openSync("/dev/stdin"); // Node may make descriptor 0 non-blocking
const SUCCESS = 0;
const BAD_DESCRIPTOR = 8; // errno of WASI
let memory;

// Call `transfer` with each buffer of a list in the module's memory; store the number of bytes that it moved.
function eachBuffer(list, count, result, transfer) {
  const view = new DataView(memory.buffer);
  let total = 0;
  for (let i = 0; i < count; i++) {
    const buffer = new Uint8Array(memory.buffer, view.getUint32(list + 8 * i, true), view.getUint32(list + 8 * i + 4, true));
    const n = buffer.length ? transfer(buffer) : 0;
    total += n;
    if (n < buffer.length) break;
  }
  view.setUint32(result, total, true);
  return SUCCESS;
}

// What the codec needs of a system: standard input, standard output, and an end.
const system = {
  fd_read: (fd, list, count, result) => eachBuffer(list, count, result, (buffer) => readSync(STDIN, buffer)),
  fd_write: (fd, list, count, result) => eachBuffer(list, count, result, (buffer) => writeSync(fd, buffer)),
  fd_fdstat_get: () => BAD_DESCRIPTOR,
  fd_close: () => SUCCESS,
  fd_seek: () => BAD_DESCRIPTOR,
  proc_exit: (code) => exit(code),
};

if (argv.length !== 3) {
  console.error("usage: node codec.mjs check.wasm");
  exit(2);
}
const { instance } = await WebAssembly.instantiate(readFileSync(argv[2]), { wasi_snapshot_preview1: system });
memory = instance.exports.memory;
instance.exports._start();
