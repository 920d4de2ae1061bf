// onnxruntime-web from the bundle's own files: which of its builds, how many threads, how much memory.

import { Model } from "./model.mjs";

const FOLDER = "ort/";
const BUILDS = {
  wasm: { script: "ort.wasm.min.mjs", core: "ort-wasm-simd-threaded" },
  webgpu: { script: "ort.jspi.min.mjs", core: "ort-wasm-simd-threaded.jspi" },
};
const MOST_THREADS = 4;

// onnxruntime-web tells nobody how large its memory is, so whoever makes one is remembered here.
let heap = null;
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(descriptor) {
    super(descriptor);
    heap = this;
  }
};

/** What the bundle and this browser can do, the best first. */
export async function devices(files) {
  const held = files.has(FOLDER + BUILDS.webgpu.script) && "Suspending" in WebAssembly;
  const adapter = held && (await navigator.gpu?.requestAdapter().catch(() => null));
  if (!adapter) return ["wasm"];
  // A graphics processor that is imitated by the processor is slower than the processor.
  return adapter.info?.isFallbackAdapter ? ["wasm", "webgpu"] : ["webgpu", "wasm"];
}

export function threads() {
  return globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
}

/** Load a build of onnxruntime-web and the model into it; `say` gets a line about each step. */
export async function load(files, manifest, device, say) {
  const { script, core } = BUILDS[device];
  say("Checking onnxruntime-web");
  const binary = await files.read(`${FOLDER}${core}.wasm`);
  await Promise.all([files.read(FOLDER + script), files.read(`${FOLDER}${core}.mjs`)]);
  const ort = await import(`./${FOLDER}${script}`);
  ort.env.wasm.wasmBinary = binary.buffer;
  ort.env.wasm.wasmPaths = { mjs: new URL(`${FOLDER}${core}.mjs`, import.meta.url).href };
  ort.env.wasm.numThreads = threads();
  ort.env.logLevel = "error";
  say("Checking and loading the model");
  const options = { executionProviders: [device], logSeverityLevel: 3 };
  const model = await Model.open(ort, files, manifest, options);
  say("Asking it for the first time");
  const [height, width] = manifest.preprocess.size;
  await model.ask({ data: new Uint8Array(height * width * 3), width, height });
  return model;
}

/** Bytes: what WebAssembly holds, and JavaScript's share where the browser tells it. */
export function memory() {
  return { wasm: heap?.buffer.byteLength ?? 0, script: performance.memory?.usedJSHeapSize ?? 0 };
}
