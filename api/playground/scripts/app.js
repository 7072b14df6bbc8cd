/** The page: its sections, its language, and the document that all of them share. */

import { Asking } from "./asking.js";
import { setUpBatch } from "./batch.js";
import { byId, takeFiles } from "./dom.js";
import { choose, firstLanguage, speak } from "./i18n.js";
import { Choice, Models } from "./models.js";
import { Reading } from "./reading.js";
import { Viewer } from "./viewer.js";

const SECTIONS = ["document", "batch", "models"];

const choice = new Choice();
const models = new Models(choice);
const viewer = new Viewer(() => {
  reading.show();
  reading.ready();
  asking.show();
});
const reading = new Reading(viewer, choice);
const asking = new Asking(viewer, choice);
setUpBatch(choice);

takeFiles(byId("file"), ([file]) => {
  const opened = viewer.open(file);
  reading.clear();
  asking.clear();
  return opened;
});

function showSection() {
  const wanted = location.hash.slice(1);
  const shown = SECTIONS.includes(wanted) ? wanted : SECTIONS[0];
  for (const section of SECTIONS) byId(section).hidden = section !== shown;
  byId("choice").hidden = shown === "models";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${shown}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  models.list();
  scrollTo(0, 0);
}

function showLanguage() {
  for (const button of document.querySelectorAll(".switch button")) {
    button.ariaPressed = String(button.value === document.documentElement.lang);
  }
}

for (const button of document.querySelectorAll(".switch button")) {
  button.addEventListener("click", () => {
    choose(button.value);
    showLanguage();
  });
}

// A file that misses its field would replace the page.
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => event.preventDefault());
}
addEventListener("hashchange", showSection);

speak(firstLanguage());
showLanguage();
showSection();
