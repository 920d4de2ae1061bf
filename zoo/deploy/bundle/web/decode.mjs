// From a picture's file to RGB pixels, by the browser's decoders: what `decode` of zoo_runtime/pixels.py does.

import { overWhite } from "./pixels.mjs";

const MAX_PIXELS = 64e6;
const FORMATS = { BMP: /^BM/, GIF: /^GIF8/, JPEG: /^\xff\xd8\xff/, PNG: /^\x89PNG\r\n\x1a\n/, WEBP: /^RIFF....WEBP/s };
/** The browser must not bend colours to a profile or turn alpha into a rounded product: Pillow does neither. */
const AS_IT_IS = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };

/** A file that is no complete picture; the text says why. */
export class PictureError extends Error {}

/**
 * Decode a picture: EXIF orientation applied, alpha over white, the first frame of several.
 * @param {Blob} file
 */
export async function decode(file) {
  if (!file.size) throw new PictureError("is empty");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const head = String.fromCharCode(...bytes.subarray(0, 16));
  const format = Object.keys(FORMATS).find((name) => FORMATS[name].test(head));
  if (!format) throw new PictureError(`is not an image of a known format (${Object.keys(FORMATS).join(", ")})`);
  await checkSize(file);
  if (!isComplete(bytes, format)) throw new PictureError("is truncated");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, AS_IT_IS);
  } catch {
    throw new PictureError(`is damaged (this browser cannot decode it as ${format})`);
  }
  try {
    return pixelsOf(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** RGB of anything that can be drawn: a bitmap, a frame of a video. */
export function pixelsOf(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  return overWhite(context.getImageData(0, 0, width, height));
}

/** An <img> knows its size before it decodes anything. */
async function checkSize(file) {
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject, src: address }));
  } catch {
    throw new PictureError("is damaged (this browser finds no picture in it)");
  } finally {
    URL.revokeObjectURL(address);
  }
  const pixels = image.naturalWidth * image.naturalHeight;
  if (pixels > MAX_PIXELS) {
    throw new PictureError(`has ${Math.round(pixels / 1e6)} megapixels, over the limit of ${MAX_PIXELS / 1e6}`);
  }
}

/** Browsers fill what is missing with grey and say nothing; the formats have a mark or a length at their end. */
function isComplete(bytes, format) {
  const view = new DataView(bytes.buffer);
  if (format === "JPEG") return find(bytes, [0xff, 0xd9], scans(view)) >= 0;
  if (format === "PNG") return find(bytes, [0x49, 0x45, 0x4e, 0x44], 8) >= 0; // IEND
  if (format === "WEBP") return view.getUint32(4, true) + 8 <= bytes.length;
  if (format === "BMP") return view.getUint32(2, true) <= bytes.length;
  return bytes.lastIndexOf(0x3b) === bytes.length - 1;
}

/** Where a JPEG's scans begin: what stands before, such as a thumbnail, has an end mark of its own. */
function scans(view) {
  let place = 2;
  while (place + 4 <= view.byteLength && view.getUint8(place + 1) !== 0xda) place += 2 + view.getUint16(place + 2);
  return place;
}

function find(bytes, wanted, start) {
  for (let place = bytes.indexOf(wanted[0], start); place >= 0; place = bytes.indexOf(wanted[0], place + 1)) {
    if (wanted.every((byte, i) => bytes[place + i] === byte)) return place;
  }
  return -1;
}
