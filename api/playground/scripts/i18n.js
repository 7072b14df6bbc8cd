/** Every string of the page, and the language it speaks. */

const STRINGS = {
  en: {
    sections: "Sections",
    interfaceLanguage: "Language of this page",
    document: "Document",
    batch: "Batch",
    models: "Models",
    api: "API",
    model: "Model",
    textLanguage: "Language of the text",
    anyLanguage: "not said",
    layout: "Layout",
    formatted: "Keep formatting",
    dropOne: "Drop a picture or a PDF here, or choose one",
    dropMany: "Drop several files here, or choose them",
    formats: "JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, AVIF, JPEG 2000, PDF",
    previousPage: "Previous page",
    nextPage: "Next page",
    pageOf: "{page} of {pages}",
    pagePicture: "The page as it is read",
    confidence: "How sure the model is of a line",
    sure: "sure (90 % and more)",
    fair: "fairly sure (70 % and more)",
    unsure: "unsure",
    text: "Text",
    pages: "Pages",
    allPages: "all, or 1-3,7",
    read: "Read",
    stop: "Stop",
    empty: "There is no text on this page.",
    reading: "Reading…",
    notRead: "This page was not read.",
    took: "{model}, {seconds} s",
    copy: "Copy",
    copied: "Copied",
    saveAs: "Save as",
    saveText: "Text",
    saveMarkdown: "Markdown",
    saveJson: "JSON",
    page: "Page {page}",
    questions: "Questions",
    question: "Ask about this page",
    ask: "Ask",
    aboutPages: "page {pages}",
    stopped: "Stopped.",
    length: "The text was cut off at its longest length.",
    repetition: "The text was cut off where it began to repeat itself.",
    deadline: "The text was cut off: the time limit passed.",
    promptUnused: "This model reads; the question was not put to it.",
    progress: "{done} of {all} done, failed: {failed}",
    waiting: "waiting",
    working: "reading",
    failed: "failed",
    done: "{seconds} s",
    load: "Load",
    unload: "Unload",
    loaded: "loaded",
    loading: "loading",
    unloaded: "not loaded",
    unavailable: "cannot run here",
    modelUnavailable: "{name}: cannot run here",
    default: "default",
    memory: "{mib} MiB",
    busy: "at work: {rows}, waiting: {queued}",
    unreachable: "The service does not answer; is it running?",
    brokenOff: "The answer broke off; try again.",
    strange: "The service answered with status {status}.",
  },
  ru: {
    sections: "Разделы",
    interfaceLanguage: "Язык этой страницы",
    document: "Документ",
    batch: "Пакет",
    models: "Модели",
    api: "API",
    model: "Модель",
    textLanguage: "Язык текста",
    anyLanguage: "не указан",
    layout: "Разметка страницы",
    formatted: "Сохранить форматирование",
    dropOne: "Перетащите сюда картинку или PDF или выберите файл",
    dropMany: "Перетащите сюда несколько файлов или выберите их",
    formats: "JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, AVIF, JPEG 2000, PDF",
    previousPage: "Предыдущая страница",
    nextPage: "Следующая страница",
    pageOf: "{page} из {pages}",
    pagePicture: "Страница, как её читает модель",
    confidence: "Насколько модель уверена в строке",
    sure: "уверенно (от 90 %)",
    fair: "довольно уверенно (от 70 %)",
    unsure: "неуверенно",
    text: "Текст",
    pages: "Страницы",
    allPages: "все или 1-3,7",
    read: "Прочитать",
    stop: "Остановить",
    empty: "На этой странице нет текста.",
    reading: "Читаю…",
    notRead: "Эта страница не прочитана.",
    took: "{model}, {seconds} с",
    copy: "Копировать",
    copied: "Скопировано",
    saveAs: "Сохранить как",
    saveText: "Текст",
    saveMarkdown: "Markdown",
    saveJson: "JSON",
    page: "Страница {page}",
    questions: "Вопросы",
    question: "Спросите об этой странице",
    ask: "Спросить",
    aboutPages: "страница {pages}",
    stopped: "Остановлено.",
    length: "Текст обрезан: достигнута наибольшая длина.",
    repetition: "Текст обрезан там, где он начал повторяться.",
    deadline: "Текст обрезан: истекло время.",
    promptUnused: "Эта модель только читает; вопрос ей не задан.",
    progress: "Готово {done} из {all}, ошибок: {failed}",
    waiting: "ждёт",
    working: "читается",
    failed: "ошибка",
    done: "{seconds} с",
    load: "Загрузить",
    unload: "Выгрузить",
    loaded: "загружена",
    loading: "загружается",
    unloaded: "не загружена",
    unavailable: "здесь не работает",
    modelUnavailable: "{name}: здесь не работает",
    default: "по умолчанию",
    memory: "{mib} МиБ",
    busy: "в работе: {rows}, в очереди: {queued}",
    unreachable: "Сервис не отвечает; запущен ли он?",
    brokenOff: "Ответ оборвался; попробуйте ещё раз.",
    strange: "Сервис ответил кодом {status}.",
  },
};

const ATTRIBUTES = ["aria-label", "placeholder", "alt"];
const KEPT = "chatvlm-language";

let language = "en";

/** The sentence in the language of the page, its `{names}` filled in. */
export function t(key, values = {}) {
  return STRINGS[language][key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

/** Lets an element say a sentence, in whatever language the page speaks later. */
export function say(element, key, values = {}) {
  element.dataset.i18n = key;
  element.dataset.values = JSON.stringify(values);
  element.textContent = t(key, values);
  return element;
}

/** Lets an element say what somebody else wrote. */
export function quote(element, text) {
  delete element.dataset.i18n;
  element.textContent = text;
  return element;
}

/** The language chosen here before, or else the browser's. */
export function firstLanguage() {
  const wanted = [localStorage.getItem(KEPT), ...navigator.languages];
  return wanted.map((tag) => tag?.slice(0, 2)).find((tag) => tag in STRINGS) ?? "en";
}

export function speak(tag) {
  language = tag;
  document.documentElement.lang = tag;
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.dataset.i18n, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const name of ATTRIBUTES) {
    for (const element of document.querySelectorAll(`[data-i18n-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-i18n-${name}`)));
    }
  }
}

export function choose(tag) {
  localStorage.setItem(KEPT, tag);
  speak(tag);
}
