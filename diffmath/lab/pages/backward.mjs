// The page of the backward process: Algorithm 2 and its kin, with the trained network.

import { Crew } from "../crew.mjs";
import { images, paperSchedule } from "../data.mjs";
import { matchedStart, Moments } from "../denoisers.mjs";
import { SIDE } from "../drawing.mjs";
import { drawImages, plot, prepared } from "../plot.mjs";
import { Gaussian } from "../random.mjs";
import { SAMPLERS } from "../samplers.mjs";
import { times } from "../schedule.mjs";
import { memo } from "../text.mjs";
import { chosenImage, imageControls, pythonImage } from "./forward.mjs";

const STRIP = 10; // pictures on the filmstrip
const LABELS = { ancestral: "ancestral, Algorithm 2", ddim: "DDIM", heun: "Heun", "dpmsolver++2m": "DPM-Solver++(2M)" };
const fromImage = (state) => state.start === "image";
const numbers = (values) => values.map((value) => [String(value), String(value)]);

export const crew = new Crew();
export const moments = memo(() => new Moments(images()));

// All that a run depends on.
const settingsOf = ({ frame, ...settings }) => JSON.stringify(settings);

// The time at which a run begins.
const firstTime = (state) => (fromImage(state) ? state.from : paperSchedule().n_steps);

// What each sample starts from, by the seed; two streams of random numbers each, the second for the noise of the steps.
function starts(state) {
  return Array.from({ length: Number(state.count) }, (_, index) => {
    // The starts from an image share its noise: as in the paper's Figure 6, they are runs from one x_T.
    const z = new Gaussian(state.seed, fromImage(state) ? 0 : 2 * index).fill(new Float32Array(SIDE * SIDE));
    if (state.start === "matched") return { index, x_T: matchedStart(paperSchedule(), moments(), z) };
    return { index, x_T: fromImage(state) ? paperSchedule().addNoise(chosenImage(state), z, state.from) : z };
  });
}

export const backwardPage = {
  id: "backward",
  title: "Backward",
  summary: `From noise to digits by the trained network <i>ε<sub>θ</sub></i>(<i>x<sub>t</sub></i>, <i>t</i>), which runs in this
    page. Algorithm 2 takes the steps (19); the other samplers need fewer. At each time the network also says which image it
    sees in the noise: (8) solved for <i>x</i><sub>0</sub>.`,
  controls: {
    method: { kind: "choice", label: "Sampler", value: "dpmsolver++2m", options: Object.keys(SAMPLERS).map((name) => [name, LABELS[name]]) },
    eta: { kind: "range", label: "η, share of the noise", min: 0, max: 1, step: 0.05, value: 0, when: ({ method }) => method === "ddim" },
    steps: { kind: "choice", label: "Steps", value: "10", options: numbers([5, 10, 20, 50, 100, 250, 500]) },
    count: { kind: "choice", label: "Samples", value: "9", options: numbers([1, 9]) },
    start: {
      kind: "choice", label: "Start", value: "noise",
      options: [["noise", "N(0, I)"], ["matched", "with MNIST's mean and covariance"], ["image", "an image with noise"]],
    },
    ...imageControls(fromImage),
    from: { kind: "range", label: "Its time t", min: 1, max: 500, step: 1, value: 300, when: fromImage },
    weight: { kind: "range", label: "Guidance, its weight", min: 0, max: 1, step: 0.1, value: 0 },
    seed: { kind: "range", label: "Seed", min: 0, max: 99, step: 1, value: 0 },
    frame: { kind: "range", label: "Film", min: 0, max: 1, step: 0.01, value: 1, format: (share) => `${Math.round(100 * share)} %` },
  },
  build,
};

function build(view) {
  const figures = {
    states: view.figure("The state x at the time of the film.", { height: 1 }),
    images: view.figure("The image that the network sees in it.", { height: 1 }),
    strip: view.figure("The film of the first sample: its states, and what the network sees. Click, or move the slider Film.", { height: 0.21 }),
    spread: view.figure("Mean and standard deviation of the pixels along the film."),
  };
  let frames = [];
  let filmed = ""; // the settings of the frames
  let running = null; // {stopped}
  const run = view.button("Run", () => void begin());
  const stop = view.button("Stop", halt);
  stop.disabled = true;
  figures.strip.addEventListener("click", (event) => {
    const { left, width } = figures.strip.getBoundingClientRect();
    view.set({ frame: Math.round((100 * (event.clientX - left)) / width) / 100 });
  });

  function halt() {
    if (running) running.stopped = true;
    running = null;
    [run.disabled, stop.disabled] = [false, true];
    view.draw();
  }

  async function begin() {
    const state = { ...view.state };
    const mine = { stopped: false };
    running = mine;
    [run.disabled, stop.disabled] = [true, false];
    const samples = starts(state);
    filmed = settingsOf(state);
    frames = [{ t: firstTime(state), states: samples.map(({ x_T }) => x_T), images: samples.map(() => null) }];
    view.set({ frame: 1 });
    const { method, weight, seed } = state;
    const eta = method === "ddim" ? state.eta : 0;
    const settings = { method, weight, seed, eta, times: times(firstTime(state), Number(state.steps)) };
    await crew.sample(settings, samples, (step) => {
      if (mine.stopped) return false;
      frames.push(step);
      view.draw();
      return true;
    });
    if (running === mine) halt();
  }

  return { draw, python, leave: halt };

  function draw(state) {
    if (frames.length > 0 && filmed !== settingsOf(state)) {
      frames = [];
      halt();
      return;
    }
    if (frames.length === 0) {
      const samples = starts(state);
      drawFrame({ states: samples.map(({ x_T }) => x_T), images: samples.map(() => null) });
      for (const canvas of [figures.strip, figures.spread]) prepared(canvas); // empty
      view.show({ "x at the start": "press Run" });
      return;
    }
    const at = Math.round(state.frame * (frames.length - 1));
    drawFrame(frames[at]);
    const shown = Array.from({ length: STRIP }, (_, i) => frames[Math.round((i * (frames.length - 1)) / (STRIP - 1))]);
    drawImages(figures.strip, [...shown.map(({ states }) => states[0]), ...shown.map(({ images: seen }) => seen[0])], SIDE, STRIP);
    drawSpread(frames[at].t);
    view.show({ "time t": frames[at].t, steps: `${frames.length - 1} of ${state.steps}${running ? ", running" : ""}` });
  }

  function drawFrame(frame) {
    const columns = frame.states.length > 1 ? 3 : 1;
    drawImages(figures.states, frame.states, SIDE, columns);
    drawImages(figures.images, frame.images, SIDE, columns);
  }

  function drawSpread(now) {
    const x = frames.map(({ t }) => t);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const means = frames.map(({ states }) => mean(states.map(mean)));
    const deviations = frames.map(({ states }, i) => Math.sqrt(mean(states.map((s) => mean(s.map((v) => (v - means[i]) ** 2))))));
    plot(figures.spread, {
      x: [0, frames[0].t], y: [-1, 1.8], xLabel: "t", yLabel: "pixels", marks: [now],
      curves: [
        { x, y: means, colour: "first", name: "mean" },
        { x, y: deviations, colour: "second", name: "standard deviation" },
      ],
    });
  }

  function python(state) {
    const { imports, lines } = fromImage(state) ? pythonImage(state) : { imports: [], lines: [] };
    const needsMoments = state.start === "matched" || state.weight > 0;
    const ddpm = [...(needsMoments ? ["moments"] : []), ...(state.start === "matched" ? ["matched_start"] : []),
      ...(state.weight > 0 ? ["gaussian_denoiser", "guided"] : [])];
    const options = [`method="${state.method}"`, `generator=${state.start === "noise" ? state.seed : "generator"}`];
    if (state.method === "ddim" && state.eta > 0) options.push(`eta=${state.eta}`);
    if (fromImage(state)) options.unshift(`times=[i * ${state.from} // ${steps(state)} for i in range(${steps(state)} + 1)]`);
    else options.unshift(`n_steps=${state.steps}`);
    const start = { noise: `n_samples=${state.count}`, matched: "x_T", image: `x_t.repeat(${state.count}, 1, 1, 1)` }[state.start];
    return [
      ...(state.start === "noise" ? [] : ["import torch"]),
      "from diffmath import load_checkpoint, sample",
      ...imports,
      ...(needsMoments && !imports.some((line) => line.includes("load_mnist")) ? ["from diffmath.data import load_mnist, to_tensor"] : []),
      "from diffmath.data import save_sheet",
      ...(ddpm.length ? [`from diffmath.ddpm import ${ddpm.sort().join(", ")}`] : []),
      "",
      'network, schedule, _ = load_checkpoint("compact")',
      ...lines,
      ...(needsMoments ? ['mean, covariance = moments(to_tensor(load_mnist("sample").images))'] : []),
      ...(state.weight > 0 ? [`network = guided(network, gaussian_denoiser(schedule, mean, covariance=covariance), weight=${state.weight})`] : []),
      ...(state.start === "noise" ? [] : [`generator = torch.Generator().manual_seed(${state.seed})`]),
      ...(state.start === "matched" ? [`x_T = matched_start(schedule, ${state.count}, mean, covariance=covariance, generator=generator)`] : []),
      ...(fromImage(state) ? [`x_t = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=generator), ${state.from})`] : []),
      "# the same law as the page's samples; the noise is torch's",
      `images = sample(network, schedule, ${[start, ...options].join(", ")})`,
      'save_sheet("digits.png", images)',
    ].join("\n");
  }

  function steps(state) {
    return Math.min(state.from, Number(state.steps));
  }
}
