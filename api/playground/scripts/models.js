/** The models: which one is asked, and which are in memory. */

import { byId, complain, element } from "./dom.js";
import { say } from "./i18n.js";
import { load, models, unload } from "./service.js";

const MIB = 2 ** 20;
const LOOK_AGAIN = 2000; // milliseconds

/** The model, the language and the model's own options that are chosen for what is read and asked. */
export class Choice {
  #models = {};
  #options = [...byId("choice").querySelectorAll("[type=checkbox]")];

  constructor() {
    byId("model").addEventListener("change", () => this.#showOptions());
  }

  get model() {
    return byId("model").value;
  }

  /** The parameters of a page to read. */
  fields() {
    const chosen = this.#options.filter((option) => option.checked && this.#takes(option));
    const options = Object.fromEntries(chosen.map(({ name, value }) => [name, value]));
    return { model: this.model, language: byId("language").value.trim(), ...options };
  }

  nameOf(model) {
    return this.#models[model]?.name ?? model;
  }

  offer({ available, default: first }) {
    const select = byId("model");
    const chosen = select.value || first;
    this.#models = Object.fromEntries(available.map((model) => [model.id, model]));
    select.replaceChildren(
      ...available.map(({ id, name, state }) => {
        const option = element("option", { value: id, textContent: name });
        if (state === "unavailable") say(option, "modelUnavailable", { name });
        return option;
      }),
    );
    select.value = chosen;
    this.#showOptions();
  }

  #takes({ name }) {
    return Boolean(this.#models[this.model]?.options.includes(name));
  }

  #showOptions() {
    for (const option of this.#options) option.closest("label").hidden = !this.#takes(option);
  }
}

export class Models {
  constructor(choice) {
    this.choice = choice;
    this.trouble = byId("models").querySelector(".error");
    this.atWork = new Set();
    setInterval(() => {
      if (!byId("models").hidden && !document.hidden) this.list();
    }, LOOK_AGAIN);
  }

  async list() {
    try {
      const listed = await models();
      this.choice.offer(listed);
      this.#show(listed);
      complain(byId("unlisted"));
    } catch (error) {
      complain(byId("unlisted"), error);
    }
  }

  #show({ available, default: first }) {
    const focused = document.activeElement?.dataset.act;
    byId("fleet").replaceChildren(...available.map((model) => this.#row(model, model.id === first)));
    byId("fleet").querySelector(`[data-act="${focused}"]`)?.focus();
  }

  #row(model, isDefault) {
    const name = element("strong", { textContent: model.name });
    const state = element("span", { className: `badge ${model.state}`, $key: model.state });
    const title = element("div", {}, name, " ", state);
    if (isDefault) title.append(" ", element("span", { className: "badge", $key: "default" }));
    return element("li", {}, element("div", {}, title, this.#facts(model)), this.#button(model));
  }

  #facts({ id, params, reason, device, dtype, memory_bytes: bytes, rows, queued }) {
    const facts = [id, params, device, dtype].filter(Boolean).join(" · ");
    const line = element("p", { className: "about", textContent: facts });
    if (bytes) line.append(" · ", say(element("span"), "memory", { mib: Math.round(bytes / MIB) }));
    if (rows || queued) line.append(" · ", say(element("span"), "busy", { rows, queued }));
    if (reason) line.append(element("br"), reason);
    return line;
  }

  #button({ id, name, state }) {
    const [key, act] = state === "loaded" ? ["unload", unload] : ["load", load];
    const made = element("button", {
      type: "button",
      $key: key,
      disabled: state === "loading" || this.atWork.has(id),
      ariaDescription: name,
    });
    made.dataset.act = `${id}`;
    made.addEventListener("click", () => this.#do(id, act));
    return made;
  }

  async #do(model, act) {
    complain(this.trouble);
    byId("happened").textContent = "";
    this.atWork.add(model);
    this.list();
    try {
      byId("happened").textContent = (await act(model)).message;
    } catch (error) {
      complain(this.trouble, error);
    } finally {
      this.atWork.delete(model);
      this.list();
    }
  }
}
