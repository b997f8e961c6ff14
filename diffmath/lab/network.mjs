// The trained network: unet.c compiled to WebAssembly, with the weights of the shipped checkpoint.

import { readSafetensors } from "./safetensors.mjs";

const residual = (name) =>
  ["norm1", "conv1", "norm_embedding", "linear", "norm2", "conv2", "skip"].map((part) => `${name}.${part}`);
const attention = (name) => ["norm", "query_key_value", "project"].map((part) => `${name}.${part}`);

// The layers in the order in which `evaluate` of unet.c takes their weights.
const LAYERS = [
  "embedding.linear1", "embedding.linear2", "conv_in",
  ...residual("res1"), ...residual("res2"), "down1",
  ...residual("res3"), ...attention("att3"), ...residual("res4"), ...attention("att4"), "down2",
  ...residual("res5"), ...residual("res6"),
  ...residual("res7"), ...attention("att7"), ...residual("res8"), ...attention("att8"),
  ...residual("res9"), ...residual("res10"), "up2",
  ...residual("res11"), ...attention("att11"), ...residual("res12"), ...attention("att12"), "up1",
  ...residual("res13"), ...residual("res14"), "norm_out", "conv_out",
];

const WIDTH = 32; // c, the number of features of a time

export class Network {
  // `module` is a WebAssembly.Module, `tensors` what readSafetensors returns for a checkpoint.
  constructor(module, tensors) {
    this.exports = new WebAssembly.Instance(module).exports;
    const { memory, weights, n_weights, features, image } = this.exports;
    const packed = new Float32Array(memory.buffer, weights(), n_weights());
    let at = 0;
    for (const name of LAYERS) {
      for (const array of packedLayer(name, tensors)) {
        packed.set(array, at);
        at += array.length;
      }
    }
    if (at !== packed.length) throw new Error(`the kernel takes ${packed.length} weights; ${at} were given`);
    this.features = new Float32Array(memory.buffer, features(), WIDTH);
    this.image = new Float32Array(memory.buffer, image(), 1024);
  }

  // The predicted noise eps_theta(x_t, t) of 32 x 32 pixels, written into `out`.
  predict(x, t, out) {
    const half = WIDTH / 2;
    const round = Math.fround; // as torch computes in float32
    const rate = round(-Math.log(10000) / half);
    for (let i = 0; i < half; i++) {
      const angle = round(t * round(Math.exp(round(i * rate))));
      this.features[i] = Math.sin(angle);
      this.features[half + i] = Math.cos(angle);
    }
    this.image.set(x);
    out.set(new Float32Array(this.exports.memory.buffer, this.exports.evaluate(), 1024));
    return out;
  }
}

// A layer's weights and bias as unet.c wants them.
function packedLayer(name, tensors) {
  const { shape, values } = tensors[`model.${name}.weight`];
  const bias = tensors[`model.${name}.bias`].values;
  if (shape.length === 1) return [values, bias];
  const transposed = name.startsWith("up");
  const [n_out, n_in] = transposed ? [shape[1], shape[0]] : shape;
  const taps = shape.length === 4 ? shape[2] * shape[3] : 1;
  const n_padded = 8 * Math.ceil(n_out / 8);
  const weight = new Float32Array(n_padded * n_in * taps);
  for (let o = 0; o < n_out; o++) {
    for (let i = 0; i < n_in; i++) {
      for (let tap = 0; tap < taps; tap++) {
        // nn.ConvTranspose2d is nn.Conv2d of an image with zeros between its pixels, by the kernel turned around.
        const from = transposed ? (i * n_out + o) * taps + (taps - 1 - tap) : (o * n_in + i) * taps + tap;
        weight[(((o >> 3) * taps + tap) * n_in + i) * 8 + (o & 7)] = values[from];
      }
    }
  }
  const padded = new Float32Array(n_padded);
  padded.set(bias);
  return [weight, padded];
}

// The tensors of a checkpoint, and its variances beta_1..beta_T.
export function readCheckpoint(buffer) {
  const tensors = readSafetensors(buffer);
  return { tensors, beta: tensors["schedule.beta"].values };
}
