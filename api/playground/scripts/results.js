/** What was read, in the forms that people keep: text, Markdown, JSON. */

import { element } from "./dom.js";
import { say, t } from "./i18n.js";

/** What a model says of its answer beside the text, as elements. */
export function remarks(answer) {
  const said = [];
  const note = (properties) => said.push(element("p", { className: "note", ...properties }));
  if (answer.warning) note({ textContent: answer.warning });
  if (["length", "repetition", "deadline"].includes(answer.finish_reason)) {
    note({ $key: answer.finish_reason });
  }
  if (answer.prompt_used === false) note({ $key: "promptUnused" });
  return said;
}

/** Buttons that copy or save what `read()` gives: a list of `{name, answer}`. */
export function saves(name, read) {
  const stem = name.replace(/\.\w+$/, "");
  const copied = element("span", { role: "status" });
  const copyButton = button("copy", async () => {
    await copy(asText(read()));
    say(copied, "copied");
  });
  return [
    copyButton,
    element("span", { className: "about", $key: "saveAs" }),
    button("saveText", () => save(`${stem}.txt`, "text/plain", asText(read()))),
    button("saveMarkdown", () => save(`${stem}.md`, "text/markdown", asMarkdown(read()))),
    button("saveJson", () => save(`${stem}.json`, "application/json", asJson(read()))),
    copied,
  ];
}

function button(key, act) {
  const made = element("button", { type: "button", $key: key });
  made.addEventListener("click", act);
  return made;
}

function asText(read) {
  return read.map(({ answer }) => answer.text).join("\f") + "\n";
}

function asJson(read) {
  const documents = read.map(({ name, answer }) => ({ filename: name, ...answer }));
  return JSON.stringify(documents.length === 1 ? documents[0] : documents, null, 2) + "\n";
}

function asMarkdown(read) {
  return read.map(({ name, answer }) => `# ${literal(name)}\n\n${body(answer)}\n`).join("\n");
}

function body(answer) {
  if (!answer.pages) return passage(answer);
  return answer.pages
    .map((page) => `## ${t("page", { page: page.number })}\n\n${passage(page)}`)
    .join("\n\n");
}

/**
 * Lines are plain text, and rows of cells a table. A text that is not that of its lines is Markdown
 * already.
 */
function passage({ text, lines, error }) {
  if (error) return `*${literal(error)}*`;
  const plainText = lines?.map((line) => line.text).join("\n");
  if (text.replace(/\n+/g, "\n") !== plainText) return text;
  const parts = [];
  for (const row of text.split("\n")) {
    const hasCells = row.includes("\t");
    if (parts.at(-1)?.hasCells !== hasCells) parts.push({ hasCells, rows: [] });
    parts.at(-1).rows.push(row);
  }
  return parts
    .map(({ hasCells, rows }) => (hasCells && rows.length > 1 ? table(rows) : plain(rows)))
    .filter(Boolean)
    .join("\n\n");
}

function plain(rows) {
  const kept = rows.join("\n").trim().split("\n").map(literal);
  return kept.map((row, number) => (row && kept[number + 1] ? `${row}\\` : row)).join("\n");
}

/** The first row is the head, as Markdown knows no table without one. */
function table(rows) {
  const [head, ...others] = rows.map((row) => row.split("\t").map(literal));
  const width = Math.max(head.length, ...others.map((cells) => cells.length));
  const written = [head, Array(width).fill("---"), ...others].map((cells) => {
    const missing = Array(width - cells.length).fill("");
    return `| ${[...cells, ...missing].join(" | ")} |`;
  });
  return written.join("\n");
}

function literal(row) {
  return row
    .replace(/[\\`*_[\]<>#|~&]/g, "\\$&")
    .replace(/^(\s*)([-+=])/, "$1\\$2")
    .replace(/^(\s*\d+)([.)])/, "$1\\$2");
}

function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // There is no clipboard on a page that came over http from another machine.
  const area = element("textarea", { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
