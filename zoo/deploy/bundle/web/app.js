// The page: load, then answer whatever is dropped, chosen or filmed.

import { camera } from "./camera.mjs";
import { decode, pixelsOf, PictureError } from "./decode.mjs";
import { BundleError, Files, readManifest } from "./model.mjs";
import { devices, load, memory, threads } from "./runtime.mjs";

const at = (id) => document.getElementById(id);
const MOST_CARDS = 50;
let model = null;
/** One thing at a time: a session answers no second question before the first. */
let queue = Promise.resolve();

function say(text, state = "busy") {
  at("status").textContent = text;
  at("status").dataset.state = state;
}

function inTurn(work) {
  queue = queue.then(work).catch(fail);
  return queue;
}

function fail(error) {
  console.info(error);
  say(error instanceof BundleError ? error.message : `It does not work here: ${String(error.message ?? error).split("\n")[0]}`, "failed");
}

async function fetchFile(name) {
  const answer = await fetch(name, { cache: "no-cache" });
  if (!answer.ok) throw new BundleError(`${name} is missing; copy the bundle once more`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function start() {
  say("Reading the checksums");
  const files = await Files.open(fetchFile);
  const manifest = await readManifest(files);
  describe(manifest);
  const able = await devices(files);
  at("where").hidden = able.length < 2;
  at("device").value = able[0];
  at("device").onchange = () => inTurn(() => use(files, manifest, [at("device").value]));
  await use(files, manifest, able);
}

/** Load the model onto the first device that takes it. */
async function use(files, manifest, able) {
  enable(false);
  const [device, ...others] = able;
  await model?.session.release();
  model = null;
  try {
    model = await load(files, manifest, device, (text) => say(`${text} ...`));
  } catch (error) {
    // A graphics processor may lack memory or an operator; a file that has changed is wrong everywhere.
    if (error instanceof BundleError || !others.length) throw error;
    at("device").value = others[0];
    await use(files, manifest, others);
    return;
  }
  const count = threads();
  const how = device === "webgpu" ? "the graphics processor" : `${count} thread${count === 1 ? "" : "s"}`;
  const why = globalThis.crossOriginIsolated ? "" : "; more need the headers that serve.py sends";
  say(`Ready, on ${how}${why}`, "ready");
  at("verdict").textContent = "Does this browser give the answers of the proof?";
  delete at("verdict").dataset.state;
  tellMemory();
  enable(true);
}

function enable(on) {
  for (const id of ["choose", "camera", "selftest"]) at(id).disabled = !on;
}

function describe({ classes, precision, report, lineage }) {
  const name = lineage?.run ?? "Classifier";
  at("name").textContent = name;
  document.title = name;
  const proof = `${(100 * report.artifact_top1).toFixed(2)} % right on ${report.images} validation images`;
  at("facts").textContent = `${classes.length} classes, ${precision}, ${(report.size_bytes / 1e6).toFixed(2)} MB, ${proof}`;
}

function tellMemory() {
  const { wasm, script } = memory();
  const parts = [`WebAssembly ${Math.round(wasm / 1e6)} MB`];
  if (script) parts.push(`JavaScript ${Math.round(script / 1e6)} MB`);
  at("machine").textContent = `Memory: ${parts.join(", ")}`;
}

/** One picture's card; a camera has one that is filled again and again. */
function card(name, picture) {
  const item = document.createElement("li");
  const title = document.createElement("h2");
  title.textContent = name;
  const body = document.createElement("div");
  body.append(title);
  if (picture) item.append(picture);
  item.append(body);
  at("results").prepend(item);
  while (at("results").children.length > MOST_CARDS) at("results").lastChild.remove();
  return body;
}

function fill(body, { top, labels, unknown, prepareMs, runMs }) {
  const list = document.createElement("ul");
  for (const { name, probability } of top) list.append(bar(name, probability, labels));
  const took = document.createElement("p");
  took.className = "note";
  took.textContent = `${runMs.toFixed(1)} ms in the network, ${prepareMs.toFixed(1)} ms to resize`;
  const lines = [list, took];
  if (unknown) lines.unshift(line("Like nothing that it knows", "unknown"));
  body.replaceChildren(body.firstChild, ...lines);
}

function bar(name, probability, labels) {
  const item = document.createElement("li");
  const percent = `${(100 * probability).toFixed(2)} %`;
  const meter = document.createElement("progress");
  Object.assign(meter, { max: 1, value: probability, ariaLabel: `${name}: ${percent}` });
  const [label, number] = [document.createElement("span"), document.createElement("span")];
  label.textContent = labels?.some((one) => one.name === name) ? `${name} ✓` : name;
  number.textContent = percent;
  item.append(label, meter, number);
  return item;
}

function line(text, kind) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.textContent = text;
  return paragraph;
}

async function answer(file) {
  try {
    const pixels = await decode(file);
    const picture = document.createElement("img");
    const address = URL.createObjectURL(file);
    Object.assign(picture, { src: address, alt: "", onload: () => URL.revokeObjectURL(address) });
    fill(card(file.name, picture), await model.classify(pixels));
  } catch (error) {
    if (!(error instanceof PictureError || error instanceof BundleError)) throw error;
    card(file.name).append(line(`This file ${error.message}.`, "bad"));
  }
  tellMemory();
}

function answerAll(files) {
  for (const file of files) inTurn(() => (model ? answer(file) : null));
}

async function selfTest() {
  const verdict = at("verdict");
  enable(false);
  verdict.dataset.state = "busy";
  const found = await model.selfTest((done, all) => (verdict.textContent = `Golden image ${done + 1} of ${all}`));
  const text = `${found.same} of ${found.images} golden images keep their class, largest difference ${found.difference.toExponential(1)} (limit ${found.limit})`;
  verdict.dataset.state = found.ok ? "pass" : "fail";
  verdict.textContent = `${found.ok ? "PASS" : "FAIL"}: ${text}`;
  tellMemory();
  enable(true);
}

at("choose").onclick = () => at("files").click();
at("files").onchange = () => {
  answerAll(at("files").files);
  at("files").value = "";
};
at("selftest").onclick = () => inTurn(selfTest);
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") answerAll(event.dataTransfer.files);
  });
}
camera({
  button: at("camera"),
  video: at("video"),
  open: () => card("Camera"),
  look: (body) => inTurn(async () => {
    const { videoWidth, videoHeight } = at("video");
    fill(body, await model.classify(pixelsOf(at("video"), videoWidth, videoHeight)));
  }),
  fail: (text) => card("Camera").append(line(text, "bad")),
});
inTurn(start);
