/** The service's public routes. */

/** Why there is no answer: the service's sentence, or the key of one of the page's. */
export class Refused extends Error {
  constructor({ sentence, key, values, retryAfter }) {
    super(sentence ?? key);
    Object.assign(this, { key, values, retryAfter });
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(`../${path}`, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused({ key: "unreachable" });
  }
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  if (!detail) throw new Refused({ key: "strange", values: { status: response.status } });
  throw new Refused({
    sentence: detail,
    retryAfter: Number(response.headers.get("Retry-After")) || undefined,
  });
}

async function json(path, options) {
  const response = await call(path, options);
  try {
    return await response.json();
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused({ key: "brokenOff" });
  }
}

function posted(file, fields, signal) {
  const body = new FormData();
  body.append("file", file);
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  return { method: "POST", body, signal };
}

export const models = () => json("models");
export const load = (model) => json(`models/${model}`, { method: "POST" });
export const unload = (model) => json(`models/${model}`, { method: "DELETE" });
export const preview = (file, page, rotation, signal) =>
  json("preview", posted(file, { page, rotation }, signal));
export const read = (file, fields, signal) => json("ocr", posted(file, fields, signal));

/** The pieces of an answer as they are made, then the answer: `{piece}` or `{answer}`. */
export async function* ask(file, fields, signal) {
  const response = await call("chat", posted(file, { ...fields, stream: "true" }, signal));
  for await (const { name, data } of events(response.body)) {
    if (name === "error") throw new Refused({ sentence: data.detail });
    if (name === "piece") yield { piece: data.text };
    if (name === "answer") {
      yield { answer: data };
      return;
    }
  }
  throw new Refused({ key: "brokenOff" });
}

/** Server-sent events: `{name, data}` each. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new Refused({ key: "brokenOff" });
    }
    if (part.done) return;
    const blocks = (text + part.value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      yield { name: field("event"), data: JSON.parse(field("data")) };
    }
  }
}
