// Starts a program on a MicroPython board by the raw REPL and raw-paste mode ("reference/repl" of MicroPython).
import { ascii, equal, numberAt } from "./bytes.js";
import { DeadlineError, DeviceError } from "./errors.js";

const INTERRUPT_RAW = ascii("\r\x03\x03\r\x01"), END = ascii("\x04"), PASTE = ascii("\x05A\x01");
const PROMPT = ascii("raw REPL; CTRL-B to exit\r\n>"), RESTARTED = ascii("soft reboot\r\n");
const TRY_MS = 1000, ANSWER_MS = 5000;
const RESTART_MS = 15_000; // a soft reset mounts the file system

/** Interrupt what runs on a board, and restart its interpreter in the raw REPL with an empty heap. */
export async function enter(link, limitMs) {
  const deadline = performance.now() + limitMs;
  for (;;) {
    await link.write(INTERRUPT_RAW);
    try {
      await link.readUntil(TRY_MS, PROMPT);
      break;
    } catch (e) {
      if (!(e instanceof DeadlineError) || performance.now() > deadline) throw e;
    }
  }
  await link.write(END);
  await link.readUntil(RESTART_MS, RESTARTED); // a slow board may still print the prompts of earlier attempts
  await link.readUntil(RESTART_MS, PROMPT);
}

/** Start a program in the raw REPL; its output follows. */
export async function start(link, program) {
  await link.write(PASTE);
  if (!equal(await link.read(2, ANSWER_MS), ascii("R\x01"))) {
    throw new DeviceError("MicroPython without raw-paste mode; flash a newer platform image first");
  }
  const window = numberAt(await link.read(2, ANSWER_MS), 0, 2);
  let code = ascii(program), left = window;
  while (code.length) {
    if (!left) {
      if ((await link.read(1, ANSWER_MS))[0] !== 1) {
        throw new DeviceError("The board has stopped the transfer of the program; connect again");
      }
      left += window;
    }
    const sent = code.subarray(0, left);
    await link.write(sent);
    code = code.subarray(sent.length);
    left -= sent.length;
  }
  await link.write(END);
  await link.readUntil(ANSWER_MS, END);
}
