// Small helpers of the page. Names come from outside: they are only ever set as text.

export const $ = id => document.getElementById(id);

/** Make an element: properties (`on...` handlers, `data` for data attributes) and children. */
export function el(tag, { data = {}, ...properties } = {}, ...children) {
  const it = Object.assign(document.createElement(tag), properties);
  Object.assign(it.dataset, data);
  it.append(...children);
  return it;
}

/** Set text only where it differs: no needless layout, and screen readers stay silent. */
export function say(it, text) {
  if (it.textContent !== text) it.textContent = text;
}

/** Return milliseconds as minutes and seconds. */
export function minutes(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

/** Return the length of a burst. */
export function length(ms) {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : minutes(ms);
}

/** Return an age in seconds in words that fit a column. */
export function age(s) {
  return s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}
