// How trouble looks: one way to say it everywhere.

import { Problem } from "./api/client";
import { wanted } from "./api/token";
import { type Child, h } from "./dom";

export function problemText(error: unknown): string {
  if (!(error instanceof Problem)) return "Something is wrong with this page: see the browser's console.";
  if (error.status === 401) return "A token is needed.";
  if (error.status === 403) return `Not allowed${error.detail ? `: ${error.detail}` : ""}.`;
  const detail = error.detail && error.detail !== error.title ? `: ${error.detail}` : "";
  return `${error.title}${detail}`.replace(/\.?$/, ".");
}

/** In the place of what cannot be shown. `more`: where to go from here. */
export function problemFace(error: unknown, ...more: Child[]): HTMLElement {
  const { title, text } = saying(error);
  return h("div", { class: "face panel", role: "status" }, h("h3", {}, title), text ? h("p", {}, text) : null, ...more);
}

function saying(error: unknown): { title: string; text: string } {
  if (!(error instanceof Problem)) return { title: "Something is wrong with this page", text: String(error) };
  switch (error.status) {
    case 0:
      return { title: error.title, text: error.detail || "It is tried again by itself." };
    case 401:
      return { title: "A token is needed", text: wanted.value === "wrong" ? "The one given is not known." : "" };
    case 403:
      return { title: "This token does not allow it", text: error.detail };
    default:
      return { title: error.title, text: error.detail };
  }
}
