// What runs in a Worker: the network, on a share of the samples, one step for each message that asks for it.

import { gaussianDenoiser, guided, Moments } from "./denoisers.mjs";
import { Network, readCheckpoint } from "./network.mjs";
import { Gaussian } from "./random.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { SAMPLERS } from "./samplers.mjs";
import { VarianceSchedule } from "./schedule.mjs";

const GUIDED = [100, 400]; // the times of guidance

// Answer the messages of a Crew.
export function serve() {
  let [network, schedule, moments, chains] = [];
  self.onmessage = ({ data }) => {
    if (data.kernel) {
      const { tensors, beta } = readCheckpoint(data.checkpoint);
      network = new Network(new WebAssembly.Module(data.kernel), tensors);
      schedule = new VarianceSchedule(beta);
      moments = () => new Moments(readSafetensors(data.images));
      return;
    }
    if (data.samples) {
      const exact = data.weight > 0 ? gaussianDenoiser(schedule, moments()) : null;
      const predict = guided((x, t, out) => network.predict(x, t, out), exact, data.weight, GUIDED);
      chains = data.samples.map((sample) => chain(predict, schedule, data, sample));
    }
    // One step of every chain: the states, and the images that the network sees in them.
    const t = chains.map(({ steps }) => steps.next().value)[0];
    self.postMessage({ run: data.run, t, states: chains.map(({ x }) => x), images: chains.map(({ image }) => image) });
  };
}

// The walk of one sample from x_T. Its noise comes from the seed unless it is given, one array for each draw.
function chain(predict, schedule, { method, times, eta, seed }, { index, x_T, noise }) {
  const [x, image] = [Float32Array.from(x_T), new Float32Array(x_T.length)];
  const random = new Gaussian(seed, 2 * index + 1);
  const fresh = new Float32Array(x.length);
  let draws = 0;
  const walk = {
    schedule, times, eta,
    noise: () => (noise ? noise[draws++] : random.fill(fresh)),
    predict(x_t, t, out) {
      predict(x_t, t, out);
      const [alpha_bar, variance] = schedule.transition(t); // eq. (8) solved for x_0
      for (let i = 0; i < x_t.length; i++) image[i] = (x_t[i] - Math.sqrt(variance) * out[i]) / Math.sqrt(alpha_bar);
    },
  };
  return { x, image, steps: SAMPLERS[method](x, walk) };
}
