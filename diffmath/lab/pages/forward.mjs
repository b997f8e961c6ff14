// The page of the forward process, eq. (8): an image drowns in noise.

import { digit, paperSchedule } from "../data.mjs";
import { BLANK, imageOf, PATTERN, SIDE, withInk } from "../drawing.mjs";
import { drawImages, plot } from "../plot.mjs";
import { Gaussian } from "../random.mjs";
import { VarianceSchedule } from "../schedule.mjs";
import { decimal, memo } from "../text.mjs";

const BINS = 40;
const RANGE = [-4, 4]; // of the histogram

// What this page and the page of the backward process both have.
export const imageControls = (when) => ({
  image: {
    kind: "choice", label: "Image", value: "3", when,
    options: [...Array.from({ length: 10 }, (_, i) => [String(i), `digit ${i}`]), ["drawing", "drawn by you"]],
  },
  drawing: { kind: "text", label: "Drawing", pattern: PATTERN, value: BLANK },
});

export const chosenImage = ({ image, drawing }) => (image === "drawing" ? imageOf(drawing) : digit(Number(image)));

// Lines of Python that make the image x_0.
export function pythonImage({ image, drawing }) {
  if (image === "drawing") {
    return {
      imports: ["import numpy as np", "from scipy.ndimage import convolve"],
      lines: [
        `bits = np.unpackbits(np.frombuffer(bytes.fromhex("${drawing}"), np.uint8)).reshape(32, 32)`,
        "ink = convolve(bits.astype(float), np.outer([1, 2, 1], [1, 2, 1]) / 12, mode=\"constant\").clip(0, 1)",
        "x_0 = torch.tensor(2 * ink - 1, dtype=torch.float32)[None, None]",
      ],
    };
  }
  return {
    imports: ["from diffmath.data import load_mnist, to_tensor"],
    lines: ['mnist = load_mnist("sample")', `x_0 = to_tensor(mnist.images[mnist.labels == ${image}][:1])`],
  };
}

const scheduleOf = memo((name) => (name === "linear" ? paperSchedule() : VarianceSchedule.cosine(500)));
const noiseOf = memo((seed) => new Gaussian(seed).fill(new Float32Array(SIDE * SIDE)));

export const forwardPage = {
  id: "forward",
  title: "Forward",
  summary: `Noise drowns an image by (8): <i>x<sub>t</sub></i> = √<i>ᾱ<sub>t</sub></i> <i>x</i><sub>0</sub> +
    √(1 − <i>ᾱ<sub>t</sub></i>) <i>ε</i>. One leap gives the image at any time <i>t</i>; with the paper's schedule 8 % of its
    amplitude is left at <i>t</i> = 500.`,
  controls: {
    ...imageControls(),
    t: { kind: "range", label: "Time t", min: 0, max: 500, step: 1, value: 120 },
    schedule: {
      kind: "choice", label: "Schedule", value: "linear",
      options: [["linear", "linear, as in the paper"], ["cosine", "cosine"]],
    },
    seed: { kind: "range", label: "Seed of the noise", min: 0, max: 99, step: 1, value: 0 },
  },
  build,
};

function build(view) {
  const keys = "Draw with the pointer; or focus it, move with the arrow keys, and press space for ink, backspace for none.";
  const figures = {
    image: view.figure("The image x at t = 0.", { height: 1, keys }),
    noisy: view.figure("The image at time t.", { height: 1 }),
    amplitudes: view.figure("The amplitudes of the image and of the noise; the line is the present time."),
    histogram: view.figure("The pixels at time t, and the density of N(0, 1)."),
  };
  let pen = [8, 15]; // row and column of the point that the keys ink
  view.button("Blank sheet", () => view.set({ image: "drawing", drawing: BLANK }));

  function ink(row, column, isInk) {
    const before = view.state.image === "drawing" ? view.state.drawing : BLANK;
    view.set({ image: "drawing", drawing: withInk(before, row, column, isInk) });
  }

  function onPointer(event) {
    if (event.buttons === 0) return;
    const { left, top, width } = figures.image.getBoundingClientRect();
    ink(...[event.clientY - top, event.clientX - left].map((at) => Math.round((at / width) * SIDE - 1)), true);
  }
  figures.image.addEventListener("pointerdown", onPointer);
  figures.image.addEventListener("pointermove", onPointer);
  figures.image.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (move) pen = pen.map((at, i) => Math.min(SIDE - 2, Math.max(0, at + move[i])));
    else if (event.key === " ") ink(...pen, true);
    else if (event.key === "Backspace") ink(...pen, false);
    else return;
    event.preventDefault();
    view.draw();
  });
  for (const event of ["focus", "blur"]) figures.image.addEventListener(event, () => view.draw());

  return { draw, python };

  function draw(state) {
    const schedule = scheduleOf(state.schedule);
    const x_0 = chosenImage(state);
    const x_t = schedule.addNoise(x_0, noiseOf(state.seed), state.t);
    const shown = Float32Array.from(x_0);
    if (document.activeElement === figures.image) shown[pen[0] * SIDE + pen[1]] = shown[pen[0] * SIDE + pen[1]] > 0 ? -1 : 1;
    drawImages(figures.image, [shown], SIDE, 1);
    drawImages(figures.noisy, [x_t], SIDE, 1);
    const t = Array.from({ length: 501 }, (_, i) => i);
    const amplitudes = t.map((time) => schedule.transition(time).map(Math.sqrt));
    plot(figures.amplitudes, {
      x: [0, 500], y: [0, 1.3], xLabel: "t", yLabel: "amplitude", marks: [state.t],
      curves: [
        { x: t, y: amplitudes.map(([signal]) => signal), colour: "first", name: "√ᾱ, image" },
        { x: t, y: amplitudes.map(([, noise]) => noise), colour: "second", name: "√(1 − ᾱ), noise" },
      ],
    });
    drawHistogram(x_t);
    const [signal, noise] = amplitudes[state.t];
    view.show({ "√ᾱ, amplitude of the image": decimal(signal, 6), "√(1 − ᾱ), of the noise": decimal(noise, 6) });
  }

  function drawHistogram(x_t) {
    const width = (RANGE[1] - RANGE[0]) / BINS;
    const heights = new Float64Array(BINS);
    for (const value of x_t) {
      const bin = Math.floor((value - RANGE[0]) / width);
      if (bin >= 0 && bin < BINS) heights[bin] += 1 / (x_t.length * width);
    }
    const bars = Array.from(heights, (height, i) => ({ x: RANGE[0] + (i + 0.5) * width, width, height, colour: "faint" }));
    const x = Array.from({ length: 81 }, (_, i) => RANGE[0] + i / 10);
    const y = x.map((value) => Math.exp((-value * value) / 2) / Math.sqrt(2 * Math.PI));
    plot(figures.histogram, {
      x: RANGE, y: [0, Math.max(0.6, Math.min(2, ...[Math.max(...heights)]))], xLabel: "pixel", yLabel: "density", bars,
      curves: [{ x, y, colour: "second", name: "N(0, 1)" }],
    });
  }

  function python(state) {
    const { imports, lines } = pythonImage(state);
    return [
      "import torch", ...imports,
      "from diffmath.schedule import VarianceSchedule",
      "",
      ...lines,
      `schedule = VarianceSchedule.${state.schedule}(500)`,
      `eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(${state.seed}))  # other noise than the page's`,
      `x_t = schedule.add_noise(x_0, eps, ${state.t})`,
      `print(schedule.alpha_bar[${state.t}] ** 0.5, schedule.transition(${state.t}, 0)[1] ** 0.5)`,
    ].join("\n");
  }
}
