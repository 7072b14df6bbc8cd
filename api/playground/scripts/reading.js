/** The text of the document, beside its page. */

import { byId, complain, element, Task } from "./dom.js";
import { quote, say } from "./i18n.js";
import { remarks, saves } from "./results.js";
import { read } from "./service.js";
import { level } from "./viewer.js";

export class Reading {
  #answer = null;

  constructor(viewer, choice) {
    this.viewer = viewer;
    this.choice = choice;
    this.card = byId("reading");
    this.form = byId("read");
    this.about = this.card.querySelector(".about");
    this.saves = this.card.querySelector(".saves");
    this.trouble = this.card.querySelector(".error");
    this.task = new Task(this.form.querySelector(".stop"), (busy) => this.#busy(busy));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#read();
    });
  }

  /** Another document is on its way. */
  clear() {
    this.task.stop();
    this.#answer = null;
    this.form.elements.pages.value = "";
    complain(this.trouble);
    this.#busy(false);
    this.show();
  }

  /** Shows what was read of the page that the viewer shows. */
  show() {
    byId("which").hidden = this.viewer.pages < 2;
    this.saves.hidden = !this.#answer;
    byId("text").hidden = !this.#answer;
    if (!this.#answer) {
      quote(this.about, "");
      this.viewer.draw([]);
      return;
    }
    const seconds = this.#answer.processing_time;
    say(this.about, "took", { model: this.choice.nameOf(this.#answer.model), seconds });
    const page = pagesOf(this.#answer).find(({ number }) => number === this.viewer.page);
    byId("text").replaceChildren(...(page ? this.#page(page) : [element("p", { $key: "notRead" })]));
  }

  #read() {
    const { file } = this.viewer;
    if (!file) return;
    this.task.run(async (signal) => {
      this.#answer = null;
      this.show();
      say(this.about, "reading");
      const fields = { ...this.choice.fields(), pages: this.form.elements.pages.value.trim() };
      const answer = await read(file, fields, signal);
      signal.throwIfAborted();
      for (const page of pagesOf(answer)) {
        await this.viewer.turn(page.number, page.rotation);
        signal.throwIfAborted();
      }
      this.#answer = answer;
      this.saves.replaceChildren(...saves(file.name, () => [{ name: file.name, answer }]));
      this.show();
    }, this.trouble);
  }

  #page(page) {
    if (page.status === "error") {
      this.viewer.draw([]);
      return [element("p", { className: "error", textContent: page.error })];
    }
    const rows = page.blocks?.length ? this.#blocks(page.blocks) : this.#lines(page);
    const text = page.text ? rows : [element("p", { className: "about", $key: "empty" })];
    return [...text, ...remarks(page)];
  }

  #blocks(blocks) {
    const boxes = this.viewer.draw(blocks);
    return blocks.map((block, number) => tied(block, block.category, boxes[number]));
  }

  /** The text as it is; each row that is a line of the page is tied to its box. */
  #lines({ text, lines = [] }) {
    const boxes = this.viewer.draw(lines);
    let next = 0;
    return text.split("\n").map((row) => {
      const line = lines[next];
      if (line?.text !== row) return element("div", { className: "line", textContent: row });
      return tied(line, `${Math.round(line.confidence * 100)} %`, boxes[next++]);
    });
  }

  #busy(busy) {
    this.card.classList.toggle("busy", busy);
    this.form.querySelector(".primary").disabled = busy || !this.viewer.file;
    if (!busy && !this.#answer) quote(this.about, "");
  }

  ready() {
    this.#busy(false);
  }
}

/** The pages of an answer; a picture is one. */
function pagesOf(answer) {
  return answer.pages ?? [{ number: 1, ...answer }];
}

/** The text of a line or block, which points at its box. */
function tied(part, remark, box) {
  const row = element("div", { className: `line ${level(part)}`, textContent: part.text });
  row.dataset.remark = remark;
  tie(row, box);
  return row;
}

/** Points at the one while the other is pointed at. */
function tie(row, box) {
  for (const [one, other] of [[row, box], [box, row]]) {
    one.addEventListener("pointerenter", () => {
      for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
      row.classList.add("lit");
      box.classList.add("lit");
      if (other === row) row.scrollIntoView({ block: "nearest" });
    });
  }
}
