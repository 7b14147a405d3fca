// Runs the expression network of @vladmandic/face-api for `beside_peers.py`, by TensorFlow.js's
// WASM backend on one thread. The packages are those of the current folder.
//
// Each line of standard input is a request in JSON; each gets one line of JSON as answer:
//   do      "score": scores of each picture as a whole
//           "aligned": the same for the part of the picture that face-api's own landmarks select
//           "find": scores of the most certain face that face-api's own detector finds, or null
//           "time score", "time aligned": milliseconds of these, for each picture
//   file    the pictures, 8 bits a value
//   shape   [pictures, height, width] (grey) or [pictures, height, width, 3] (RGB)
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { createRequire } = require('module');

const packages = createRequire(path.join(process.cwd(), 'package.json'));
const tf = packages('@tensorflow/tfjs');
const wasm = packages('@tensorflow/tfjs-backend-wasm');
const folder = path.join(process.cwd(), 'node_modules/@vladmandic/face-api');
const faceapi = packages(path.join(folder, 'dist/face-api.node-wasm.js'));

const LABELS = ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgusted', 'surprised'];

/** The picture as RGB. */
function tensorOf(bytes, [height, width, channels]) {
  if (channels === 3) return tf.tensor3d(bytes, [height, width, 3], 'int32');
  const rgb = new Int32Array(height * width * 3);
  for (let i = 0; i < height * width; i += 1) rgb.fill(bytes[i], 3 * i, 3 * i + 3);
  return tf.tensor3d(rgb, [height, width, 3], 'int32');
}

const scoresOf = (expressions) => LABELS.map((label) => expressions[label]);

async function score(picture) {
  return scoresOf(await faceapi.nets.faceExpressionNet.predictExpressions(picture));
}

async function aligned(picture) {
  const landmarks = await faceapi.nets.faceLandmark68Net.detectLandmarks(picture);
  const [face] = await faceapi.extractFaceTensors(picture, [landmarks.align()]);
  const scores = await score(face);
  face.dispose();
  return scores;
}

async function find(picture) {
  const faces = await faceapi.detectAllFaces(picture, new faceapi.SsdMobilenetv1Options())
    .withFaceLandmarks()
    .withFaceExpressions();
  faces.sort((a, b) => b.detection.score - a.detection.score);
  return faces.length > 0 ? scoresOf(faces[0].expressions) : null;
}

const STEPS = { score, aligned, find };

async function answer(request) {
  const [count, height, width, channels = 1] = request.shape;
  const size = height * width * channels;
  const all = fs.readFileSync(request.file);
  if (all.length !== count * size) throw new Error(`${all.length} bytes, not ${request.shape}`);
  const isTimed = request.do.startsWith('time ');
  const step = STEPS[request.do.replace('time ', '')];
  const values = [];
  for (let i = 0; i < count; i += 1) {
    const begun = performance.now();
    const bytes = all.subarray(i * size, (i + 1) * size);
    const picture = tensorOf(bytes, [height, width, channels]);
    const value = await step(picture);
    picture.dispose();
    values.push(isTimed ? performance.now() - begun : value);
  }
  return values;
}

async function main() {
  const wasmPackage = packages.resolve('@tensorflow/tfjs-backend-wasm/package.json');
  wasm.setWasmPaths(`${path.dirname(wasmPackage)}/dist/`);
  wasm.setThreadsCount(1);
  await tf.setBackend('wasm');
  await tf.ready();
  const nets = faceapi.nets;
  for (const net of [nets.faceExpressionNet, nets.faceLandmark68Net, nets.ssdMobilenetv1]) {
    await net.loadFromDisk(path.join(folder, 'model'));
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const values = await answer(JSON.parse(line));
    process.stdout.write(`${JSON.stringify(values)}\n`);
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
