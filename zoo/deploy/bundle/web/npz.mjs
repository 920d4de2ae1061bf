// Arrays of a .npz file: a zip of .npy files, stored or deflated.

const TYPES = { "|u1": Uint8Array, "<f4": Float32Array, "<i8": BigInt64Array };
const [ENTRY, END] = [0x02014b50, 0x06054b50];

/**
 * @param {Uint8Array} bytes The file.
 * @returns {Promise<Object<string, {data: ArrayLike<number>, shape: number[]}>>} Name -> array.
 */
export async function readNpz(bytes) {
  const arrays = {};
  for (const { name, packed, deflated } of entries(bytes)) {
    arrays[name.replace(/\.npy$/, "")] = readNpy(deflated ? await inflate(packed) : packed);
  }
  return arrays;
}

function* entries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (view.getUint32(end, true) !== END) end -= 1;
  let place = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    if (view.getUint32(place, true) !== ENTRY) throw new Error("a damaged list of files");
    const lengths = [28, 30, 32].map((at) => view.getUint16(place + at, true));
    const name = new TextDecoder().decode(bytes.subarray(place + 46, place + 46 + lengths[0]));
    const header = view.getUint32(place + 42, true);
    const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    const packed = bytes.subarray(start, start + view.getUint32(place + 20, true));
    yield { name, packed, deflated: view.getUint16(place + 10, true) === 8 };
    place += 46 + lengths[0] + lengths[1] + lengths[2];
  }
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readNpy(bytes) {
  const wide = bytes[6] > 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = wide ? 12 : 10;
  const stop = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, stop));
  const Type = TYPES[/'descr': '(.*?)'/.exec(header)?.[1]];
  if (!Type || !header.includes("'fortran_order': False")) throw new Error(`an array of another kind: ${header}`);
  const shape = /'shape': \((.*?)\)/.exec(header)[1].split(",").filter((one) => one.trim()).map(Number);
  return { data: new Type(bytes.slice(stop).buffer), shape };
}
