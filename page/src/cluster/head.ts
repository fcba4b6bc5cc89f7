// What is known of the cluster, its name and its pin. A pinned cluster keeps its id whatever it merges with.

import * as api from "../api/client";
import type { Cluster } from "../api/types";
import type { Cell } from "../cell";
import { button, h, on, say, set } from "../dom";
import { count, counted } from "../format";
import { problemText } from "../states";

export function clusterHead(collection: string, cluster: Cell<Cluster>, signal: AbortSignal): HTMLElement {
  const title = h("h1", {}, `#${cluster.value.cluster_id}`);
  const name = h("span", { class: "name" });
  const facts = h("p", { class: "facts" });
  const trouble = h("p", { class: "trouble", role: "alert" });
  const input = h("input", { id: "cluster-name", maxlength: 200, autocomplete: "off", placeholder: "no name" });
  const save = h("button", { class: "primary" }, "Save name");
  const pin = button(
    "Pin",
    { title: "A pinned cluster keeps its id when it merges" },
    () => void change({ pinned: !cluster.value.pinned }),
  );

  const change = async (to: { name?: string | null; pinned?: boolean }): Promise<void> => {
    for (const one of [save, pin]) set(one, { disabled: true });
    say(trouble, "");
    try {
      cluster.value = await api.change(collection, cluster.value.cluster_id, to, signal);
    } catch (error) {
      if (!api.isAbort(error)) say(trouble, problemText(error));
    } finally {
      pin.disabled = false;
      draw(cluster.value);
    }
  };
  const edited = (): boolean => input.value.trim() !== (cluster.value.name ?? "");
  const form = on(
    h("form", { class: "naming" }, h("label", { for: "cluster-name" }, "Name"), input, save, pin),
    "submit",
    (event) => {
      event.preventDefault();
      void change({ name: input.value.trim() || null });
    },
  );
  on(input, "input", () => (save.disabled = !edited()));

  const draw = ({ size, version, sequence, pinned, name: known }: Cluster): void => {
    say(name, known ?? "");
    say(facts, `${counted(size, "face")} · version ${count(version)} · last changed by event ${count(sequence)}`);
    // What is being typed is the reader's.
    if (document.activeElement !== input) input.value = known ?? "";
    save.disabled = !edited();
    set(pin, { "aria-pressed": String(pinned === true) });
    say(pin, pinned ? "Pinned" : "Pin");
  };
  cluster.watch(signal, draw);

  return h(
    "header",
    { class: "cluster-head" },
    h("div", {}, h("div", { class: "titles" }, title, name), facts),
    form,
    trouble,
  );
}
