// The page of the exact denoiser in one dimension: what Algorithm 2 does where the network is perfect.

import { mixtureDenoiser } from "../denoisers.mjs";
import { plot } from "../plot.mjs";
import { Gaussian } from "../random.mjs";
import { SAMPLERS } from "../samplers.mjs";
import { times, VarianceSchedule } from "../schedule.mjs";
import { decimal, memo } from "../text.mjs";

const N = 400; // samples
const PATHS = 12;
const BINS = 60;
const OFFSETS = { 1: [0], 2: [-0.8, 0.8], 3: [-1, 0, 1] }; // of the components from the centre

const meansOf = ({ components, mean }) => OFFSETS[components].map((offset) => mean + offset);
const stepsOf = ({ steps, T }) => (steps === "all" ? T : Math.min(T, Number(steps)));
const scheduleOf = memo((T) => VarianceSchedule.linear(T));
const noiseOf = memo((seed, n) => {
  const random = new Gaussian(seed);
  return Array.from({ length: n + 1 }, () => random.fill(new Float64Array(N)));
}, 2);

// Run a sampler with the exact denoiser on an array of independent numbers; onStep sees each state.
function walk(state, x, noise, onStep = () => {}) {
  const schedule = scheduleOf(state.T);
  const predict = mixtureDenoiser(schedule, meansOf(state), state.deviation ** 2);
  const steps = SAMPLERS[state.method](x, { schedule, times: times(state.T, stepsOf(state)), predict, noise, eta: 0 });
  for (const t of steps) onStep(t, x);
  return x;
}

// The mean and the variance of the samples' law for one Gaussian, where every step is affine: x_0 = a + b x_T + sum c_i z_i.
// The numbers of one run give a, then b (x_T = 1), then each c_i (only z_i = 1).
export function exactLaw(state) {
  const n = stepsOf(state);
  const x = new Float64Array(n + 2);
  x[1] = 1;
  let draw = 0;
  const noise = () => {
    const only = new Float64Array(n + 2);
    only[2 + draw++] = 1;
    return only;
  };
  walk(state, x, noise);
  const parts = x.slice(1, 2 + draw);
  return { mean: x[0], variance: parts.reduce((sum, value) => sum + (value - x[0]) ** 2, 0) };
}

export const exactPage = {
  id: "exact",
  title: "Exact denoiser",
  summary: `For data from a mixture of Gaussians on the line the best denoiser E[<i>ε</i> | <i>x<sub>t</sub></i>] is known, so every
    error is the sampler's. Algorithm 2 does not return the data's law: each step (19) uses the variance (15), that of a single
    point <i>x</i><sub>0</sub>, and the samples come out too narrow. With fewer steps it is worse.`,
  controls: {
    components: { kind: "choice", label: "Components", value: "1", options: [["1", "one Gaussian"], ["2", "two"], ["3", "three"]] },
    mean: { kind: "range", label: "Centre", min: -2, max: 2, step: 0.1, value: 0.3 },
    deviation: { kind: "range", label: "Standard deviation of each", min: 0.05, max: 1, step: 0.05, value: 0.2 },
    T: { kind: "range", label: "Noise levels T", min: 50, max: 1000, step: 50, value: 500 },
    steps: { kind: "choice", label: "Steps", value: "all", options: [["all", "all T"], ...[5, 10, 20, 50, 100, 250].map((n) => [String(n), String(n)])] },
    method: { kind: "choice", label: "Sampler", value: "ancestral", options: Object.keys(SAMPLERS).map((name) => [name, name]) },
    seed: { kind: "range", label: "Seed", min: 0, max: 99, step: 1, value: 0 },
  },
  build,
};

function build(view) {
  const figures = {
    law: view.figure("The samples, the law of the data, and for one Gaussian the exact law of the samples, dashed."),
    paths: view.figure("Paths of some samples, from the noise at the left to the data."),
  };
  return { draw, python };

  function draw(state) {
    const means = meansOf(state);
    const noise = noiseOf(state.seed, stepsOf(state));
    const x = noise[0].slice();
    const path = [[state.T, x.slice(0, PATHS)]];
    let draws = 1;
    walk(state, x, () => noise[draws++], (t) => path.push([t, x.slice(0, PATHS)]));
    const reach = 1 + 4 * state.deviation;
    const range = [state.mean - reach, state.mean + reach];
    const law = state.components === "1" ? exactLaw(state) : null;
    drawLaw(state, means, x, range, law);
    const lowest = Math.min(-3, range[0]);
    plot(figures.paths, {
      x: [-state.T, 0], y: [lowest, Math.max(3, range[1])], xLabel: "−t", yLabel: "x",
      curves: Array.from({ length: PATHS }, (_, i) => ({
        x: path.map(([t]) => -t), y: path.map(([, states]) => states[i]), colour: ["first", "second", "third"][i % 3], width: 1,
      })),
    });
    const average = x.reduce((sum, value) => sum + value, 0) / N;
    const variance = x.reduce((sum, value) => sum + (value - average) ** 2, 0) / (N - 1);
    const ofData = state.deviation ** 2 + means.reduce((sum, mean) => sum + (mean - state.mean) ** 2, 0) / means.length;
    const numbers = { "variance of the data": decimal(ofData, 4), [`variance of these ${N} samples, over it`]: decimal(variance / ofData, 3) };
    if (law) numbers["exact variance of the samples, over it"] = decimal(law.variance / ofData, 6);
    view.show(numbers);
  }

  function drawLaw(state, means, x, range, law) {
    const width = (range[1] - range[0]) / BINS;
    const heights = new Float64Array(BINS);
    for (const value of x) {
      const bin = Math.floor((value - range[0]) / width);
      if (bin >= 0 && bin < BINS) heights[bin] += 1 / (N * width);
    }
    const at = Array.from({ length: 241 }, (_, i) => range[0] + (i * (range[1] - range[0])) / 240);
    const normal = (value, mean, deviation) => Math.exp(-(((value - mean) / deviation) ** 2) / 2) / (deviation * Math.sqrt(2 * Math.PI));
    const density = at.map((value) => means.reduce((sum, mean) => sum + normal(value, mean, state.deviation), 0) / means.length);
    const curves = [{ x: at, y: density, colour: "first", name: "the data" }];
    if (law) {
      const y = at.map((value) => normal(value, law.mean, Math.sqrt(law.variance)));
      curves.push({ x: at, y, colour: "second", dash: [5, 4], name: "law of the samples" });
    }
    const bars = Array.from(heights, (height, i) => ({ x: range[0] + (i + 0.5) * width, width, height, colour: "faint" }));
    plot(figures.law, { x: range, y: [0, 1.3 * Math.max(...curves.flatMap(({ y }) => y))], xLabel: "x", yLabel: "density", bars, curves });
  }

  function python(state) {
    const means = meansOf(state).map((mean) => Number(mean.toFixed(2)));
    return [
      "import torch",
      "from diffmath import sample",
      "from diffmath.ddpm import mixture_denoiser",
      "from diffmath.schedule import VarianceSchedule",
      "",
      `schedule = VarianceSchedule.linear(${state.T})`,
      `means = torch.tensor([${means.map((mean) => `[${mean}]`).join(", ")}], dtype=torch.float64)`,
      `denoiser = mixture_denoiser(schedule, means, ${state.deviation} ** 2)`,
      `generator = torch.Generator().manual_seed(${state.seed})`,
      `x_T = torch.randn(${N}, 1, dtype=torch.float64, generator=generator)`,
      `x = sample(denoiser, schedule, x_T, n_steps=${stepsOf(state)}, method="${state.method}", generator=generator)`,
      `print(x.var().item() / (${state.deviation} ** 2 + means.var(correction=0).item()))`,
    ].join("\n");
  }
}
