// DOM helpers. Names and texts come from outside: they are only ever set as text, never parsed as HTML.

export const $ = id => document.getElementById(id);

/** Create an element with properties (`on...` handlers, `data` for data attributes) and children. */
export function el(tag, { data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Create a button. */
export function button(textContent, onclick, properties = {}) {
  return el("button", { textContent, onclick, ...properties });
}

/** Set an element's text only if it differs: avoids layout, and screen readers announce changes only. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Format milliseconds as minutes and seconds. */
export function formatMinutes(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

/** Format the length of a burst or clip. */
export function formatDuration(ms) {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : formatMinutes(ms);
}

/** Format an age in seconds for a narrow column. */
export function formatAge(s) {
  return s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

/** Format the time of day. */
export function formatTime(date) {
  return date.toLocaleTimeString("en-GB");
}
