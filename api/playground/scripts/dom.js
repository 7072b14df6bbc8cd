/** Small helpers for the page's elements. What comes from outside is set as text, never as HTML. */

import { quote, say } from "./i18n.js";

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; `$key` in `properties` is a sentence of the page. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { $key, ...rest } = properties;
  Object.assign(made, rest);
  if ($key) say(made, $key);
  made.append(...children);
  return made;
}

/** Shows an error as a sentence, the service's own where it has one; nothing for one of our stops. */
export function complain(place, error) {
  if (!error || error.name === "AbortError") quote(place, "");
  else if (error.key) say(place, error.key, error.values);
  else quote(place, error.message);
}

/** Calls `take` with the files that are chosen in, or dropped on, a field's label. */
export function takeFiles(field, take) {
  const label = field.closest("label");
  field.addEventListener("change", () => {
    const files = [...field.files];
    field.value = ""; // the same file may be chosen again
    if (files.length) take(files);
  });
  label.addEventListener("dragover", (event) => {
    event.preventDefault();
    label.classList.add("over");
  });
  label.addEventListener("dragleave", () => label.classList.remove("over"));
  label.addEventListener("drop", (event) => {
    event.preventDefault();
    label.classList.remove("over");
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

/** One task at a time, which its stop button ends; a new one ends the one before. */
export class Task {
  #controller = new AbortController();

  constructor(stop, busy = () => {}) {
    this.stopButton = stop;
    this.busy = busy;
    stop?.addEventListener("click", () => this.stop());
  }

  stop() {
    this.#controller.abort();
  }

  /** Runs `work(signal)`; shows in `trouble` why it failed. */
  async run(work, trouble) {
    this.stop();
    const controller = (this.#controller = new AbortController());
    complain(trouble);
    this.#show(true);
    try {
      await work(controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) complain(trouble, error);
    } finally {
      if (this.#controller === controller) this.#show(false);
    }
  }

  #show(busy) {
    if (this.stopButton) this.stopButton.hidden = !busy;
    this.busy(busy);
  }
}
