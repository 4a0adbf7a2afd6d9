// Keys and pointers of the console. Space acts on the focused control; a focused Talk button talks in its own group.
// The push-to-talk key talks in the selected group, but only while no control has the focus.
import { $, setText } from "./dom.js";

export const PTT_KEY = "F9";
const HOLD_KEYS = [" ", "Enter"];  // on a focused Talk button
const RELEASE_EVENTS = ["blur", "pagehide"];  // the window would not receive the key's release

const talkButton = target => target.closest?.(".talk, #talk-button");
const isTextField = target => target.closest?.("input:not([type=radio], [type=checkbox]), select, dialog");
const usesArrows = target => target.closest?.("canvas, [type=radio]");
const pageHasFocus = () => document.activeElement === document.body || document.activeElement === null;

export class Controls {
  /**
   * ptt: PushToTalk; groups: GroupTable; shortcuts: functions by key; onUserAction(): called for each action, as
   * browsers require one before they play sound.
   */
  constructor(ptt, groups, shortcuts, onUserAction) {
    Object.assign(this, { ptt, groups, shortcuts, onUserAction });
    addEventListener("keydown", e => this.#onKeyDown(e));
    addEventListener("keyup", e => this.ptt.release(e.code));
    addEventListener("pointerdown", e => this.#onPointerDown(e));
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => this.ptt.release("pointer"));
    for (const end of RELEASE_EVENTS) addEventListener(end, () => this.ptt.release());
    addEventListener("visibilitychange", () => document.hidden && this.ptt.release());
    addEventListener("contextmenu", e => talkButton(e.target) && e.preventDefault());
  }

  #onKeyDown(e) {
    this.onUserAction();
    if (e.ctrlKey || e.altKey || e.metaKey || $("console").hidden) return;
    const button = talkButton(e.target);
    if (button && HOLD_KEYS.includes(e.key)) {
      e.preventDefault();
      if (!e.repeat) this.#talk(button, e.code);
    } else if (e.key === PTT_KEY) {
      e.preventDefault();
      if (!e.repeat) this.#onPttKey(e.code);
    } else if (e.key === "Escape" && !e.target.closest?.("dialog")) {
      document.activeElement.blur();
      this.shortcuts.Escape();
    } else if (!isTextField(e.target)) {
      this.#onShortcut(e);
    }
  }

  #onPttKey(code) {
    if (pageHasFocus()) this.ptt.press(this.groups.selected, code);
    else setText($("message"), `${PTT_KEY} does not talk while a control has the focus: press Esc first`);
  }

  #onShortcut(e) {
    const isArrow = e.key.startsWith("Arrow");
    const shortcut = this.shortcuts[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (!shortcut || isArrow && usesArrows(e.target)) return;
    e.preventDefault();
    if (!e.repeat || isArrow) shortcut();
  }

  #onPointerDown(e) {
    this.onUserAction();
    const button = talkButton(e.target);
    if (button && e.button === 0) this.#talk(button, "pointer");
  }

  #talk(button, source) {
    if (button.dataset.group) this.groups.select(Number(button.dataset.group));
    this.ptt.press(this.groups.selected, source);
  }
}
