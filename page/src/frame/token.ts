// Asks for the API token when the daemon wants one.

import { token, useToken, wanted } from "../api/token";
import { button, h, on, say } from "../dom";

export function tokenDialog(signal: AbortSignal): HTMLElement {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const text = h("p", { id: "token-text" });
  const form = on(
    h(
      "form",
      {},
      h("h2", { id: "token-title" }, "This daemon wants a token"),
      text,
      h("label", { for: "token" }, "API token"),
      input,
      h(
        "div",
        { class: "buttons" },
        h("button", { class: "primary" }, "Use it"),
        button("Not now", {}, () => dialog.close()),
      ),
    ),
    "submit",
    (event) => {
      event.preventDefault();
      dialog.close();
      useToken(input.value.trim());
      input.value = "";
    },
  );
  const dialog = h("dialog", { "aria-labelledby": "token-title", "aria-describedby": "token-text" }, form);
  const ask = button("Enter token", { class: "small ask-token", hidden: true }, () => dialog.showModal());
  wanted.watch(signal, (now) => {
    ask.hidden = now === "no";
    if (now === "no") return;
    const kept = "It is kept in this tab until you close it, and sent to this daemon only.";
    say(text, now === "wrong" ? `The token given is not one it knows. ${kept}` : kept);
    if (!dialog.open && dialog.isConnected) dialog.showModal();
  });
  token.watch(signal, () => (ask.hidden = wanted.value === "no"));
  return h("div", { class: "token" }, ask, dialog);
}
