// Making elements. Whatever comes from elsewhere (face ids, names of clusters) becomes text or an attribute here, never
// markup: there is no innerHTML in this page. Nor are there style attributes, which the Content-Security-Policy forbids.

export type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined>;

const SVG = "http://www.w3.org/2000/svg";

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  set(element, attributes);
  fill(element, ...children);
  return element;
}

export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes);
  fill(element, ...children);
  return element;
}

/** Sets attributes; `true` is an empty one, `false` and `undefined` take it away. Touches nothing that is as it should be. */
export function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) element.removeAttribute(name);
    else {
      const text = value === true ? "" : String(value);
      if (element.getAttribute(name) !== text) element.setAttribute(name, text);
    }
  }
}

/** Replaces what is in the element. */
export function fill(element: Element, ...children: Child[]): void {
  const nodes = children.filter((child): child is Node | string | number => child != null && child !== false);
  element.replaceChildren(...nodes.map((child) => (typeof child === "number" ? String(child) : child)));
}

/** Sets the text where it differs: a text that stays the same keeps the reader's selection. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function on<T extends HTMLElement | SVGElement, K extends keyof HTMLElementEventMap>(
  element: T,
  type: K,
  listener: (event: HTMLElementEventMap[K]) => void,
): T {
  element.addEventListener(type, listener as EventListener);
  return element;
}

export function button(text: string, attributes: Attributes, click: () => void): HTMLButtonElement {
  return on(h("button", { type: "button", ...attributes }, text), "click", click);
}

/**
 * Makes the children of `parent` those of `items`, by key, and keeps the elements that stay: with them the focus, the
 * selection and the place scrolled to.
 */
export function keyed<T, E extends Element>(
  parent: Element,
  items: readonly T[],
  key: (item: T) => string,
  make: (item: T) => E,
  update: (element: E, item: T) => void = () => {},
): void {
  const there = new Map<string, Element>();
  for (const child of parent.children) there.set(child.getAttribute("data-key") ?? "", child);
  const focused = document.activeElement;
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = there.get(name) as E | undefined;
    if (element) there.delete(name);
    else {
      element = make(item);
      element.setAttribute("data-key", name);
    }
    update(element, item);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const gone of there.values()) gone.remove();
  if (
    (focused instanceof HTMLElement || focused instanceof SVGElement) &&
    focused !== document.activeElement &&
    parent.contains(focused)
  ) {
    focused.focus({ preventScroll: true });
  }
}
