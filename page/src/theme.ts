// Light or dark: as the system says, until the reader says otherwise.

import { button, set } from "./dom";

const KEY = "facetd-theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

type Theme = "light" | "dark";

function chosen(): Theme | undefined {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : undefined;
  } catch {
    return undefined; // a browser that forbids storage
  }
}

let theme: Theme | undefined = chosen();

const shown = (): Theme => theme ?? (dark.matches ? "dark" : "light");

export function themeToggle(): HTMLButtonElement {
  const toggle = button("", { class: "icon" }, () => {
    const next = shown() === "dark" ? "light" : "dark";
    // Back at what the system says there is nothing to remember.
    theme = (next === "dark") === dark.matches ? undefined : next;
    try {
      if (theme) localStorage.setItem(KEY, theme);
      else localStorage.removeItem(KEY);
    } catch {
      // as above
    }
    apply();
  });
  const apply = (): void => {
    set(document.documentElement, { "data-theme": shown() });
    const other = shown() === "dark" ? "light" : "dark";
    toggle.textContent = shown() === "dark" ? "☀" : "☾";
    set(toggle, { "aria-label": `Switch to the ${other} theme`, title: `Switch to the ${other} theme` });
  };
  dark.addEventListener("change", apply);
  apply();
  return toggle;
}
