// Runs a head by onnxruntime-web, the WebAssembly that pages run, one clip at a time.
//
//   node run.mjs HEAD.onnx CLIPS STEPS WIDTH < features (float32), then mask (a byte each)
//
// Prints {"version", "ms": [of each clip], "logits": [of one clip after the other]}.

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [file, ...sizes] = process.argv.slice(2);
const [clips, steps, width] = sizes.map(Number);
const input = new Uint8Array(readFileSync(0)).buffer; // copied: Node's may be unaligned
const features = new Float32Array(input, 0, clips * steps * width);
const mask = new Uint8Array(input, features.byteLength, clips * steps);

async function run() {
  ort.env.wasm.numThreads = 1; // more need a page that is cross-origin isolated
  const options = { executionProviders: ["wasm"] };
  const session = await ort.InferenceSession.create(readFileSync(file), options);
  const logitsOf = async (clip) => {
    const rows = features.subarray(clip * steps * width, (clip + 1) * steps * width);
    const real = mask.subarray(clip * steps, (clip + 1) * steps);
    const inputs = {
      features: new ort.Tensor("float32", rows, [1, steps, width]),
      mask: new ort.Tensor("bool", real, [1, steps]),
    };
    return (await session.run(inputs, ["logits"])).logits.data;
  };
  await logitsOf(0); // warm-up
  const ms = [];
  const logits = [];
  for (let clip = 0; clip < clips; clip++) {
    const began = performance.now();
    logits.push(...(await logitsOf(clip)));
    ms.push(performance.now() - began);
  }
  return { version: ort.env.versions.web, ms, logits };
}

// Node.js would print an uncaught error with all of the package's minified source.
run().then(
  (output) => console.log(JSON.stringify(output)),
  (error) => {
    console.error(String(error));
    process.exitCode = 1;
  },
);
