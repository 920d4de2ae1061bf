// A bundle behind a class, in a browser and in Node: checked, asked, tested; what zoo_runtime/model.py is in Python.

import { readNpz } from "./npz.mjs";
import { prepare } from "./pixels.mjs";

/** By how much a probability may differ on another machine: zoo_runtime/golden.py. */
export const LIMITS = { fp32: 1e-4, fp16: 1e-2, "int8-weights": 1e-3, "int4-weights": 1e-3 };
const LIMIT_INT8 = 5e-2;
const SCHEMA = 1;
const THRESHOLD = 0.5;
/** Session options that a bundle may ask for: a stranger's file must not choose libraries, files or memory. */
const OBEYED = ["session.disable_quant_qdq"];
const LINE = /^([0-9a-f]{64}) {2}([\w+-][\w.+-]*(?:\/[\w+-][\w.+-]*)*)$/;

/** A bundle that is not as it was made, or cannot be used here; the text is one line. */
export class BundleError extends Error {}

export const limitOf = (precision) => LIMITS[precision] ?? LIMIT_INT8;

/** The files of a bundle; none is handed out before its SHA-256 is what SHA256SUMS says. */
export class Files {
  /** @param {(name: string) => Promise<Uint8Array>} load Gets a file of the bundle, as it is. */
  static async open(load) {
    if (!globalThis.crypto?.subtle) {
      throw new BundleError("checksums need a secure address; open the page through https, or on 127.0.0.1");
    }
    const sums = new Map();
    for (const line of new TextDecoder().decode(await load("SHA256SUMS")).trimEnd().split("\n")) {
      const match = LINE.exec(line);
      if (!match) throw new BundleError("SHA256SUMS is damaged; copy the bundle once more");
      sums.set(match[2], match[1]);
    }
    return new Files(load, sums);
  }

  constructor(load, sums) {
    this.load = load;
    this.sums = sums;
  }

  has(name) {
    return this.sums.has(name);
  }

  async read(name) {
    const wanted = this.sums.get(name);
    const bytes = wanted && (await this.load(name));
    const digest = bytes && new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    if (!wanted || Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== wanted) {
      throw new BundleError(`${name} is not what the bundle was made with (its checksum differs); copy it once more`);
    }
    return bytes;
  }
}

export async function readManifest(files) {
  const manifest = JSON.parse(new TextDecoder().decode(await files.read("artifact.json")));
  if (manifest.schema > SCHEMA) throw new BundleError("artifact.json is newer than this page; bundle it again");
  return manifest;
}

/** Session options, as onnxruntime's JavaScript takes them: {session: {disable_quant_qdq: "1"}}. */
export function sessionOptions(manifest) {
  const asked = Object.entries(manifest.session ?? {}).filter(([name, value]) => OBEYED.includes(name) && /^[01]$/.test(value));
  const session = Object.fromEntries(asked.map(([name, value]) => [name.replace("session.", ""), value]));
  return asked.length ? { extra: { session } } : {};
}

export class Model {
  /**
   * @param ort onnxruntime-web or onnxruntime-node.
   * @param {Files} files Of the bundle.
   * @param {object} options Of the session, beside those that the bundle asks for.
   */
  static async open(ort, files, manifest, options = {}) {
    const bytes = await files.read(manifest.model_file);
    return new Model(ort, files, manifest, await ort.InferenceSession.create(bytes, { ...options, ...sessionOptions(manifest) }));
  }

  constructor(ort, files, manifest, session) {
    Object.assign(this, { ort, files, manifest, session });
  }

  /** Classify an image, {data, width, height} in RGB: what is said of it, and how long it took. */
  async classify(image, top = 5) {
    const started = performance.now();
    const pixels = this.manifest.resize_in_graph ? image : prepare(image, this.manifest.preprocess);
    const prepared = performance.now();
    const { probabilities, unknown } = await this.ask(pixels);
    const answered = performance.now();
    const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const told = (places) => places.map((i) => ({ name: this.manifest.classes[i], probability: probabilities[i] }));
    const { multi_label: several } = this.manifest;
    return {
      top: told(order.slice(0, top)),
      labels: several ? told(order.filter((i) => probabilities[i] >= this.threshold(i))) : null,
      unknown,
      prepareMs: prepared - started,
      runMs: answered - prepared,
    };
  }

  threshold(place) {
    return Math.fround(this.manifest.thresholds?.[this.manifest.classes[place]] ?? THRESHOLD);
  }

  /** Run the network on one image as it takes it. */
  async ask({ data, width, height }) {
    const { input, output, unknown: tellsUnknown } = this.manifest;
    const pixels = new this.ort.Tensor("uint8", new Uint8Array(data), [1, height, width, 3]);
    const answers = await this.session.run({ [input.name]: pixels }, [output.name, ...(tellsUnknown ? ["unknown"] : [])]);
    const probabilities = Float32Array.from(answers[output.name].data);
    if (!probabilities.every(Number.isFinite)) throw new BundleError("the model gave no numbers; run the self-test");
    return { probabilities, unknown: tellsUnknown ? Boolean(answers.unknown.data[0]) : null };
  }

  /** Ask the golden images again: do they get the answers that the proof kept? */
  async selfTest(progress = () => {}) {
    const { images, artifact } = await readNpz(await this.files.read("golden.npz"));
    const [count, height, width] = images.shape;
    const classes = artifact.shape[1];
    let [same, difference] = [0, 0];
    for (let i = 0; i < count; i += 1) {
      progress(i, count);
      const size = height * width * 3;
      const { probabilities } = await this.ask({ data: images.data.subarray(i * size, (i + 1) * size), width, height });
      const wanted = artifact.data.subarray(i * classes, (i + 1) * classes);
      if (probabilities.length !== classes) throw new BundleError("golden.npz is of another model; bundle it again");
      wanted.forEach((value, place) => (difference = Math.max(difference, Math.abs(value - probabilities[place]))));
      same += this.said(probabilities) === this.said(wanted) ? 1 : 0;
    }
    const limit = limitOf(this.manifest.precision);
    return { ok: difference <= limit && same === count, images: count, same, difference, limit };
  }

  /** What is said of an image, as text that can be compared. */
  said(probabilities) {
    if (this.manifest.multi_label) return probabilities.map((value, i) => (value >= this.threshold(i) ? 1 : 0)).join();
    return String(probabilities.indexOf(Math.max(...probabilities)));
  }
}
