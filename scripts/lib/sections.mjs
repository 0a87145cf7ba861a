/**
 * A WebAssembly module without some of its custom sections. The names of functions are a tenth of the module, and nothing
 * shows them: a panic is logged with its location. rustc's `strip` also removes what wasm-bindgen reads.
 *
 * @param {Buffer} module
 * @param {string[]} names
 */
export function withoutSections(module, names) {
  const CUSTOM = 0;
  const HEADER = 8;
  const kept = [module.subarray(0, HEADER)];
  for (let at = HEADER; at < module.length; ) {
    const size = varint(module, at + 1);
    const end = size.end + size.value;
    const name = module[at] === CUSTOM ? varint(module, size.end) : undefined;
    const isNamed = name && names.includes(module.toString("utf8", name.end, name.end + name.value));
    if (!isNamed) kept.push(module.subarray(at, end));
    at = end;
  }
  return Buffer.concat(kept);
}

/** An unsigned LEB128 number, and the offset behind it. @param {Buffer} bytes @param {number} at */
function varint(bytes, at) {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = bytes.readUInt8(at);
    at += 1;
    value += (byte % 128) * factor;
    if (byte < 128) return { value, end: at };
  }
}
