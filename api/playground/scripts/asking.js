/** Questions about the document; each is answered on its own, while the answer is made. */

import { byId, complain, element, Task } from "./dom.js";
import { quote, say } from "./i18n.js";
import { remarks } from "./results.js";
import { ask } from "./service.js";

export class Asking {
  constructor(viewer, choice) {
    this.viewer = viewer;
    this.choice = choice;
    this.card = byId("asking");
    this.form = byId("ask");
    this.trouble = this.card.querySelector(".error");
    this.task = new Task(this.form.querySelector(".stop"), (busy) => this.#busy(busy));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    this.form.elements.prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
  }

  /** Another document is on its way. */
  clear() {
    this.task.stop();
    this.form.elements.pages.value = "";
    byId("answers").replaceChildren();
    complain(this.trouble);
    this.#busy(false);
  }

  /** Another page is shown. */
  show() {
    byId("about").hidden = this.viewer.pages < 2;
    this.form.elements.pages.placeholder = this.viewer.page;
    this.#busy(this.card.classList.contains("busy"));
  }

  #ask() {
    const { file, page, pages } = this.viewer;
    const prompt = this.form.elements.prompt.value.trim();
    if (!file || !prompt || this.card.classList.contains("busy")) return;
    const asked = this.form.elements.pages.value.trim() || String(page);
    const said = element("div", { className: "said", ariaBusy: "true", role: "status" });
    const about = element("p", { className: "about" });
    const question = element("p", { className: "question", textContent: prompt });
    if (pages > 1) question.append(" ", say(element("small"), "aboutPages", { pages: asked }));
    const item = element("li", {}, question, said, about);
    this.task.run(async (signal) => {
      byId("answers").append(item);
      byId("answers").scrollTop = byId("answers").scrollHeight;
      try {
        const fields = { model: this.choice.model, prompt, pages: asked };
        for await (const { piece, answer } of ask(file, fields, signal)) {
          if (piece) this.#append(said, piece);
          if (answer) await this.#finish(answer, said, about, asked);
        }
        this.form.elements.prompt.value = "";
      } catch (error) {
        if (signal.aborted) say(about, "stopped");
        else if (!said.textContent) item.remove();
        throw error;
      } finally {
        said.ariaBusy = "false";
      }
    }, this.trouble);
  }

  /** The newest text stays in view, unless somebody has scrolled up to read. */
  #append(said, piece) {
    const list = byId("answers");
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    said.textContent += piece;
    if (follows) list.scrollTop = list.scrollHeight;
  }

  async #finish(answer, said, about, asked) {
    quote(said, answer.response);
    const model = this.choice.nameOf(answer.model);
    say(about, "took", { model, seconds: answer.processing_time });
    about.before(...remarks(answer));
    const { file, page } = this.viewer;
    if (asked !== String(page) || !answer.lines) return;
    await this.viewer.turn(page, answer.rotation);
    if (this.viewer.file === file && this.viewer.page === page) this.viewer.mark(answer.lines);
  }

  #busy(busy) {
    this.card.classList.toggle("busy", busy);
    this.form.querySelector(".primary").disabled = busy || !this.viewer.file;
  }
}
