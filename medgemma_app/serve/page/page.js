// The page of `medgemma serve`: sends a picture or notes, shows the draft as it is written, then the report with its checks.
"use strict";

const at = (id) => document.getElementById(id);
const state = { running: null, record: null, current: null, scan: null, source: null };

function show(id, shown = true) { at(id).hidden = !shown; }

function say(status, error = "") {
  at("status").textContent = status;
  at("error").textContent = error;
  show("error", error !== "");
  if (error) at("error").scrollIntoView({ block: "nearest" });
}

function headers(more = {}) {
  const key = at("key").value.trim();
  if (/[^\x21-\x7e]/.test(key)) throw new Error("a key consists of Latin letters, digits and symbols; copy it again");
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function refusal(answer) {
  if (answer.status === 401) {
    show("keyed");
    return at("key").value.trim() ? "the key is wrong; enter it again" : "this server needs a key; enter it in the field above";
  }
  try {
    return (await answer.json()).error.message;
  } catch {
    return `the server answered with status ${answer.status}`;
  }
}

// Server-sent events: calls `take` with each event's name and parsed data.
async function events(answer, take) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
      const lines = held.slice(0, end).split("\n");
      held = held.slice(end + 2);
      const told = Object.fromEntries(lines.map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (told.data) take(told.event, JSON.parse(told.data));
    }
  }
}

function begin() {
  state.record = null;
  at("text").textContent = "";
  at("report").replaceChildren();
  show("actions", false);
  show("streaming");
  show("cancel");
  at("cancel").focus();
  for (const button of document.querySelectorAll("form button")) button.disabled = true;
  say("Writing…");
}

function end() {
  state.running = null;
  show("cancel", false);
  for (const button of document.querySelectorAll("form button")) button.disabled = false;
}

function finished(record, view) {
  state.record = record;
  state.source = view.source;
  // The server has escaped everything that is not its own, and no script runs here but this one.
  at("report").innerHTML = view.html;
  show("streaming", false);
  show("actions");
  const isDicom = record.kind === "findings" && record.input.scan.format.startsWith("DICOM");  // only then is there a study to file it in
  for (const option of at("format").options) option.disabled = option.value.endsWith(".dcm") && !isDicom;
  if (at("format").selectedOptions[0].disabled) at("format").value = ".html";
  say("Done. Read the checks, then the picture or the notes themselves.");
  const title = at("report").querySelector("h1");
  title.tabIndex = -1;
  title.focus({ preventScroll: true });  // which tells a screen reader
  at("actions").scrollIntoView();
}

async function write(event) {
  event.preventDefault();
  if (state.running) return;
  const form = event.target;
  const fields = new FormData();
  for (const [name, value] of new FormData(form)) if (value !== "" && value.size !== 0) fields.append(name, value);
  const notes = fields.getAll("notes").length;
  if (form.id === "soap" && notes !== 1) return say("", notes ? "give the notes as text or as a file, not both" : "paste the notes, or choose a file with them");
  at("patient").value = "";  // which was about these notes alone
  state.scan = fields.get("scan");
  const abort = (state.running = new AbortController());
  begin();
  try {
    const answer = await fetch(`/v1/${form.id}?view=html`, {
      method: "POST", body: fields, signal: abort.signal, headers: headers({ Accept: "text/event-stream" }),
    });
    if (!answer.ok) throw new Error(await refusal(answer));
    describe();
    let record = null;
    await events(answer, (name, data) => {
      if (name === "token" && data.kind !== "thought") at("text").textContent += data.text;
      if (name === "report") record = data;
      if (name === "view") finished(record, data);
      if (name === "error") throw new Error(data.error.message);
    });
    if (!state.record) throw new Error("the server ended before the report was complete; try again");
  } catch (error) {
    if (abort.signal.aborted) say(at("text").textContent ? "Cancelled. What was written so far is below." : "Cancelled before anything was written.");
    else say("", error instanceof TypeError ? "the server cannot be reached; is it still running?" : error.message);
    show("streaming", at("text").textContent !== "");
  } finally {
    end();
    if (!state.record) form.querySelector("button").focus();
  }
}

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `draft${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// `work`, with a message where it fails.
function guarded(work) {
  return async () => {
    try {
      await work();
    } catch (error) {
      say("", error instanceof TypeError ? "the server cannot be reached; is it still running?" : error.message);
    }
  };
}

// The pictures of the report, each a PNG file named by its caption.
function pictures() {
  return [...at("report").querySelectorAll("figure")].map((figure) => {
    const bytes = Uint8Array.from(atob(figure.querySelector("img").src.split(",")[1]), (letter) => letter.charCodeAt(0));
    return new File([bytes], `${figure.querySelector("figcaption").textContent.toLowerCase()}.png`, { type: "image/png" });
  });
}

async function download() {
  const ending = at("format").value;
  const fields = new FormData();
  fields.set("record", JSON.stringify(state.record));
  fields.set("to", ending);
  if (ending.endsWith(".dcm")) fields.set("scan", state.scan);
  if ([".html", ".pdf", ".dcm"].includes(ending)) {
    for (const picture of pictures()) fields.append("images", picture);
    if (state.source !== null) fields.set("source", state.source);
  }
  const answer = await fetch("/v1/export", { method: "POST", body: fields, headers: headers() });
  if (!answer.ok) return say("", await refusal(answer));
  save(await answer.blob(), ending);
  say(`Downloaded as draft${ending}.`);
}

async function copy() {
  await navigator.clipboard.writeText(state.record.text);
  say("The text was copied to the clipboard.");
}

function choose() {
  const kind = document.querySelector("input[name=kind]:checked").value;
  for (const id of ["findings", "soap"]) show(id, id === kind);
}

// Takes a file dropped anywhere: where the page does not, the browser leaves it and opens the file.
function drag(event) {
  if (!event.dataTransfer.types.includes("Files")) return;  // text may be dragged into a field
  event.preventDefault();
  const main = at("findings").hidden ? at("file") : at("scan");
  const field = at("prior").parentElement.contains(event.target) ? at("prior") : main;
  for (const zone of document.querySelectorAll("form label")) zone.classList.toggle("over", event.type === "dragover" && zone.control === field);
  if (event.type !== "drop") return;
  if (event.dataTransfer.files.length !== 1) return say("", "drop one file at a time; none of them was accepted");
  field.files = event.dataTransfer.files;
  chosen(field);
}

// Says what a file was chosen as. An earlier picture belongs to one current picture, and does not stay when that is replaced.
function chosen(field) {
  const uses = { scan: "the current picture", prior: "the earlier picture", file: "the notes" };
  const replaced = field === at("scan") && state.current && at("prior").value;
  if (field === at("scan")) state.current = field.files[0];
  if (replaced) at("prior").value = "";
  const said = field.files.length ? `${field.files[0].name} is chosen as ${uses[field.id]}.` : "";
  say(said + (replaced ? " Choose the earlier picture again." : ""));
}

async function ready() {
  const answer = await fetch("/ready").catch(() => null);
  if (!answer?.ok) return setTimeout(ready, 1000);
  await describe();
}

// Names the model, or asks for the key that is needed to know it.
async function describe() {
  const models = await fetch("/v1/models", { headers: headers() });
  show("keyed", models.status === 401);
  at("model").textContent = models.ok ? `Model: ${(await models.json()).data[0].id}` : "This server needs a key.";
}

for (const id of ["findings", "soap"]) at(id).addEventListener("submit", write);
for (const id of ["scan", "prior", "file"]) at(id).addEventListener("change", (event) => chosen(event.target));
for (const choice of document.querySelectorAll("input[name=kind]")) choice.addEventListener("change", choose);
at("cancel").addEventListener("click", () => state.running?.abort());
at("key").addEventListener("change", guarded(describe));
at("copy").addEventListener("click", guarded(copy));
at("download").addEventListener("click", guarded(download));
for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag);
choose();
ready();
