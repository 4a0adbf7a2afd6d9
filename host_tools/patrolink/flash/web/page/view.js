// Shows image, device and progress. Texts of devices are only ever set as text, never parsed as HTML.

const TEXTS = {
  waiting: "Connect a device",
  identifying: "Reading what the device is",
  planning: "Comparing the image with the device",
  ready: "Ready to write",
  confirming: "Confirming that it is still the same device",
  writing: "Writing: do not unplug the device",
  verifying: "Verifying: the device computes the hash of what it holds",
  releasing: "Starting the device",
  flashed: "Done. The device holds the image and starts it on trial",
  unchanged: "The device holds this image already. Nothing was written, and it starts again",
  refused: "Refused. Nothing was written",
  failed: "Failed",
  stopped: "Stopped. The device starts with the image that it had",
};
const GOOD = ["flashed", "unchanged"];
const BAD = ["refused", "failed"];

export const $ = id => document.getElementById(id);

/** Show the checked image, or why there is none. */
export function showImage(image) {
  const { board, architecture, version, rollback, minimumPlatform, size, sha256, keyId } = image.header;
  setFacts($("image-facts"), {
    Version: version, Board: board, Architecture: architecture, "Rollback number": rollback, "Needs platform": minimumPlatform,
    Bytes: size.toLocaleString("en"), "SHA-256": Array.from(sha256, byte => byte.toString(16).padStart(2, "0")).join(""),
    Signature: `valid, release key ${keyId}`,
  });
}

/** Show an error that keeps the page from working. */
export function showFatal(text) {
  $("status").textContent = "No device can be flashed with this page";
  document.body.dataset.state = "failed";
  $("error").textContent = text;
}

/** Show the state of a device, and put the focus on what comes next. */
export function showFlow(flow) {
  const { state, device, plan, error } = flow, focused = document.activeElement;
  document.body.dataset.state = state;
  document.body.dataset.result = GOOD.includes(state) ? "good" : BAD.includes(state) ? "bad" : "";
  $("status").textContent = TEXTS[state];
  $("error").textContent = error;
  $("plan").textContent = plan ? `${state === "ready" ? "Will be written" : "Image"}: ${plan.text}` : "";
  $("device-none").hidden = device !== null;
  setFacts($("device-facts"), device ? {
    "Device id": device.deviceId ?? "not provisioned", Board: device.board, Architecture: device.architecture, "Unique id": device.uniqueId,
    Version: device.version || "no agent image", "Rollback number": device.rollback ?? "none",
    "Lowest accepted": device.rollbackFloor, Platform: device.platform,
  } : {});
  $("connect").disabled = !flow.isEnded;
  $("write").disabled = state !== "ready";
  $("stop").disabled = !flow.isStoppable;
  $("progress").hidden = !["writing", "verifying", "releasing", "flashed"].includes(state) || plan.isUnchanged;
  if (state === "confirming") showProgress(0, 1, 0);
  if (focused === document.body || focused.disabled || focused === $("status")) {
    (state === "ready" ? $("write") : flow.isEnded ? $("connect") : $("status")).focus();
  }
}

/** Show how much is written, and how fast. */
export function showProgress(done, total, ms) {
  $("progress-bar").max = total;
  $("progress-bar").value = done;
  const speed = ms > 0 ? `, ${(done / ms).toFixed(1)} KB/s` : "";
  $("progress-text").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} bytes${speed}`;
}

function setFacts(list, facts) {
  list.replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt"), description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value;
    return [term, description];
  }));
}
