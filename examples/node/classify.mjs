// Classifies pictures with a bundle of zoo's, in Node:
//
//   node classify.mjs BUNDLE picture.jpg ...     the five most probable classes of each
//   node classify.mjs BUNDLE --selftest          the golden images again: exit code 0, or 3 if the answers are not the proof's
//
// Checksums, resize and self-test are those of the page in bundles for browsers.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { Files, Model, readManifest } from "../../zoo/deploy/bundle/web/model.mjs";
import { overWhite } from "../../zoo/deploy/bundle/web/pixels.mjs";

// Read when onnxruntime loads: since 1.29 it sends telemetry unless told not to.
process.env.ORT_DISABLE_TELEMETRY = "1";
const { default: ort } = await import("onnxruntime-node");

const MAX_PIXELS = 64e6;
// libvips reads a hundred formats, some of them programs; a stranger's picture gets these.
sharp.block({ operation: ["VipsForeignLoad"] });
sharp.unblock({ operation: ["Jpeg", "Nsgif", "Png", "Tiff", "Webp"].map((kind) => `VipsForeignLoad${kind}`) });

/** RGB pixels of a picture's file: EXIF orientation applied, alpha over white, no colours bent to a profile. */
async function decode(file) {
  const options = { limitInputPixels: MAX_PIXELS, ignoreIcc: true };
  const picture = sharp(await readFile(file), options);
  if ((await picture.metadata()).space === "cmyk") throw new Error("is CMYK, which needs a profile; save it as RGB");
  const rgba = picture.autoOrient().toColourspace("srgb").ensureAlpha().raw({ depth: "uchar" });
  const { data, info } = await rgba.toBuffer({ resolveWithObject: true });
  return overWhite({ data, width: info.width, height: info.height });
}

async function open(folder) {
  const files = await Files.open((name) => readFile(join(folder, name)));
  const manifest = await readManifest(files);
  return Model.open(ort, files, manifest, { intraOpNumThreads: manifest.report.threads, logSeverityLevel: 3 });
}

async function selfTest(model) {
  const { ok, same, images, difference, limit } = await model.selfTest();
  const verdict = ok ? "the same answers as in the proof" : "NOT the answers of the proof";
  const told = `${same} of ${images} golden images keep their class, largest difference ${difference.toPrecision(2)}`;
  console.log(`${verdict}: ${told} (limit ${limit})`);
  return ok ? 0 : 3;
}

async function classify(model, pictures) {
  let code = 0;
  for (const picture of pictures) {
    try {
      const { top, unknown } = await model.classify(await decode(picture));
      const told = top.map(({ name, probability }) => `${name} ${(100 * probability).toFixed(2)} %`).join(", ");
      console.log(`${picture}: ${unknown ? "like nothing that it knows; " : ""}${told}`);
    } catch (error) {
      console.error(`${picture}: ${error.message.split("\n")[0]}`);
      code = 1;
    }
  }
  return code;
}

const [folder, ...rest] = process.argv.slice(2);
if (!rest.length) {
  console.error("usage: node classify.mjs BUNDLE --selftest | IMAGE...");
  process.exitCode = 2;
} else {
  try {
    const model = await open(folder);
    process.exitCode = rest[0] === "--selftest" ? await selfTest(model) : await classify(model, rest);
  } catch (error) {
    console.error(`classify: ${error.message.split("\n")[0]}`);
    process.exitCode = 1;
  }
}
