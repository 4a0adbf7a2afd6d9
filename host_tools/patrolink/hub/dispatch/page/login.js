// Login form: exchanges a dispatcher's token for a session cookie.
import { $, setText } from "./dom.js";

export class Login {
  /** handlers: onUserAction() when the form is sent, onLogin() when it was accepted. */
  constructor(handlers) {
    this.handlers = handlers;
    $("login").onsubmit = e => this.#submit(e);
    $("logout").onclick = () => fetch("/logout", { method: "POST" });
  }

  show(message) {
    $("console").hidden = true;
    $("login").hidden = false;
    setText($("login-error"), message);
    $("token").focus();
  }

  hide() {
    $("login").hidden = true;
    $("console").hidden = false;
  }

  async #submit(e) {
    e.preventDefault();
    this.handlers.onUserAction();
    const response = await fetch("/login", { method: "POST", body: JSON.stringify({ token: $("token").value }),
      headers: { "Content-Type": "application/json" } }).catch(() => null);
    $("token").value = "";
    if (response?.ok) this.handlers.onLogin();
    else this.show(response ? await response.text() : "The hub cannot be reached");
  }
}
