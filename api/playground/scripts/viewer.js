/** The picture of one page, with boxes drawn on it. */

import { byId, complain, Task } from "./dom.js";
import { quote, say } from "./i18n.js";
import { preview } from "./service.js";

const SVG = "http://www.w3.org/2000/svg";

/** How sure a model is of a line, in words; of a block it does not say. */
export function level({ confidence }) {
  if (confidence === undefined) return "block";
  if (confidence >= 0.9) return "sure";
  return confidence >= 0.7 ? "fair" : "unsure";
}

export class Viewer {
  file = null;
  page = 1;
  pages = 0;
  /** Degrees clockwise by which a page is turned, by its number. */
  #turns = new Map();

  /** `onPage` is called whenever another page is shown. */
  constructor(onPage) {
    this.onPage = onPage;
    this.task = new Task(null, (busy) => byId("sheet").classList.toggle("busy", busy));
    byId("previous").addEventListener("click", () => this.show(this.page - 1));
    byId("next").addEventListener("click", () => this.show(this.page + 1));
  }

  /** Shows a file's first page; it is taken where the service can show it. */
  async open(file) {
    this.file = null;
    this.pages = 0;
    this.#turns.clear();
    byId("sheet").hidden = true;
    quote(byId("name"), file.name);
    await this.#load(file, 1);
  }

  show(page) {
    return this.#load(this.file, page);
  }

  /** Turns a page as it was before it was read, so that boxes can be drawn on it. */
  async turn(page, rotation) {
    const degrees = rotation?.degrees ?? 0;
    if (degrees === (this.#turns.get(page) ?? 0)) return;
    this.#turns.set(page, degrees);
    if (page === this.page) await this.show(page);
  }

  #load(file, page) {
    return this.task.run(async (signal) => {
      const shown = await preview(file, page, this.#turns.get(page), signal);
      signal.throwIfAborted();
      Object.assign(this, { file, page, pages: shown.pages });
      byId("picture").src = shown.image;
      byId("boxes").setAttribute("viewBox", `0 0 ${shown.image_size.join(" ")}`);
      say(byId("number"), "pageOf", { page, pages: shown.pages });
      byId("pager").hidden = shown.pages === 1;
      byId("previous").disabled = page === 1;
      byId("next").disabled = page === shown.pages;
      byId("sheet").hidden = false;
      this.draw([]);
      this.onPage();
    }, byId("trouble"));
  }

  /** Draws the boxes of lines or blocks; gives the rectangle of each, in pixels of the page. */
  draw(parts) {
    const boxes = parts.map((part) => rectangle(part.box, level(part)));
    byId("boxes").replaceChildren(...boxes);
    byId("legend").hidden = parts.every((part) => level(part) === "block");
    return boxes;
  }

  /** Marks where an answer stands, beside the boxes that are drawn. */
  mark(lines) {
    for (const old of byId("boxes").querySelectorAll(".mark")) old.remove();
    byId("boxes").append(...lines.map((line) => rectangle(line.box, "mark")));
  }
}

function rectangle([left, top, right, bottom], kind) {
  const drawn = document.createElementNS(SVG, "rect");
  const places = { x: left, y: top, width: right - left, height: bottom - top, class: kind };
  for (const [name, value] of Object.entries(places)) drawn.setAttribute(name, value);
  return drawn;
}
