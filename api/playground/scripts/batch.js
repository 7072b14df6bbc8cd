/** Many files, a request each, some at a time, so that the progress shown is true. */

import { byId, complain, element, takeFiles, Task } from "./dom.js";
import { say } from "./i18n.js";
import { remarks, saves } from "./results.js";
import { read } from "./service.js";

const AT_ONCE = 4;
const TRIES = 20;
const LONGEST_WAIT = 10; // seconds: more is asked for where another try makes no sense soon

export function setUpBatch(choice) {
  const section = byId("batch");
  const progress = byId("progress");
  const keep = section.querySelector(".saves");
  const task = new Task(section.querySelector(".stop"));
  takeFiles(byId("files"), (files) => {
    const rows = files.map((file) => new Row(file));
    byId("results").replaceChildren(...rows.map((row) => row.item));
    progress.hidden = false;
    keep.hidden = true;
    keep.replaceChildren(...saves("batch", () => rows.filter((row) => row.answer)));
    const show = () => {
      const done = rows.filter((row) => row.over).length;
      const failed = rows.filter((row) => row.over && !row.answer).length;
      Object.assign(progress.querySelector("progress"), { max: rows.length, value: done });
      say(progress.querySelector("[role=status]"), "progress", { done, all: rows.length, failed });
      keep.hidden = done === failed;
    };
    show();
    task.run(async (signal) => {
      const fields = choice.fields();
      const left = [...rows];
      const reader = async () => {
        for (let row; (row = left.shift()) && !signal.aborted; ) {
          await row.read(fields, signal);
          show();
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, reader));
    }, section.querySelector(".error"));
  });
}

class Row {
  answer = null;
  over = false;

  constructor(file) {
    this.file = file;
    this.name = file.name;
    this.state = element("span", { className: "state", $key: "waiting" });
    this.head = element("summary", {}, element("span", { textContent: file.name }), this.state);
    this.body = element("div", { className: "text" });
    this.item = element("li", {}, element("details", {}, this.head, this.body));
  }

  /** Never throws: what went wrong stands in the row. */
  async read(fields, signal) {
    say(this.state, "working");
    try {
      this.answer = await patiently(() => read(this.file, fields, signal), signal);
      const { text, pages, processing_time: seconds } = this.answer;
      say(this.state, "done", { seconds });
      this.body.textContent = text;
      this.body.append(...(pages ?? [this.answer]).flatMap(pageRemarks));
    } catch (error) {
      say(this.state, signal.aborted ? "stopped" : "failed");
      const trouble = element("p", { className: "error" });
      complain(trouble, error);
      this.body.replaceChildren(trouble);
      this.head.parentElement.open = !signal.aborted;
    }
    this.over = true;
    this.item.className = this.answer ? "done" : "failed";
  }
}

function pageRemarks(page) {
  if (!page.error) return remarks(page);
  return [element("p", { className: "error", textContent: `${page.number}: ${page.error}` })];
}

/** Waits for its turn as long as the service, being busy, asks to. */
async function patiently(request, signal) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request();
    } catch (error) {
      if (!(error.retryAfter <= LONGEST_WAIT) || attempt === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
      signal.throwIfAborted();
    }
  }
}
