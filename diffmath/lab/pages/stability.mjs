// The page of stability, eq. (23): steady states grow perturbations by lower modes, and lose those by higher ones.

import { evolve, growthRate } from "../flow.mjs";
import { plot } from "../plot.mjs";
import { decimal } from "../text.mjs";
import { axisOf } from "./flow.mjs";

const CASCADE_END = 1.2;
const modeNumber = (label, value) => ({ kind: "range", label, min: 1, max: 8, step: 1, value });
const power = (label, value) => ({
  kind: "range", label, min: -14, max: 0, step: 0.5, value, format: (exponent) => decimal(10 ** exponent, 2),
});
const axis = () => axisOf("no-flux");
const MODES = 16; // as many as suffice for amplitudes; the rates do not depend on their number

// The flow at a time, from pairs of a mode number and an amplitude.
export function fromModes(modes, t, n = MODES) {
  const c = new Float64Array(n);
  for (const [k, amplitude] of modes) c[k] += amplitude;
  return evolve(axisOf("no-flux", n), c, t);
}

const perturbed = (k, j, size) => [[k, 1], [j, 10 ** size]];

// The time in which the perturbation reaches the size of the steady state, or falls as far, and half as much again.
function horizon({ k, j, size }) {
  const rate = Math.abs(growthRate(axis(), k, j)) || 1;
  return (1.5 * Math.log(10) * Math.max(1, -size)) / rate;
}

// The rate at which log |b_j| changes at first, measured on the exact flow.
export function measuredRate({ k, j, size }) {
  if (k === j) return 0;
  const dt = 1e-2 / Math.abs(growthRate(axis(), k, j));
  const [before, after] = [0, dt].map((t) => Math.log(Math.abs(fromModes(perturbed(k, j, size), t).b[j])));
  return (after - before) / dt;
}

export const stabilityPage = {
  id: "stability",
  title: "Stability",
  summary: `Each mode <i>w<sub>k</sub></i> with <i>k</i> ≥ 1 is a steady state of (22). By (23) a small perturbation
    <i>b<sub>j</sub> w<sub>j</sub></i> of it changes as exp((<i>μ<sub>k</sub></i> − <i>μ<sub>j</sub></i>) <i>t</i>): it grows if
    <i>j</i> &lt; <i>k</i>. So only the first mode is stable, and a high mode falls to it in a cascade.`,
  controls: {
    k: modeNumber("Steady state k", 3),
    j: modeNumber("Perturbation j", 1),
    size: { ...power("Its amplitude at first", -4), max: -0.5 },
    at: { kind: "range", label: "Time, as a share of the plot", min: 0, max: 1, step: 0.01, value: 0.5 },
    two: power("Cascade: amplitude of w2", -4),
    one: power("Cascade: amplitude of w1", -12),
  },
  build,
};

function build(view) {
  const figures = {
    growth: view.figure("The amplitudes of both modes, and the exponential of (23), dashed."),
    u: view.figure("The flow at the time of the line, and the steady state, faint."),
    cascade: view.figure("The cascade from mode 5 over mode 2 to mode 1: their amplitudes."),
    multiplier: view.figure("Its multiplier λ(t), with the three eigenvalues, dashed."),
  };
  return { draw, python };

  function draw(state) {
    const { k, j, size } = state;
    const end = horizon(state);
    const t = Array.from({ length: 121 }, (_, i) => (end * i) / 120);
    const states = t.map((time) => fromModes(perturbed(k, j, size), time));
    const rate = growthRate(axis(), k, j);
    const now = state.at * end;
    const amplitude = (mode) => states.map((one) => Math.max(1e-300, Math.abs(one.b[mode])));
    plot(figures.growth, {
      x: [0, end], y: [Math.min(10 ** size, 10 ** (size - 1), amplitude(j).at(-1)), 10 * Math.max(1, k / j)], logY: true,
      xLabel: "t", yLabel: "amplitude", marks: [now],
      curves: [
        { x: t, y: amplitude(k), colour: "first", name: `|b${k}|` },
        { x: t, y: amplitude(j), colour: "second", name: `|b${j}|` },
        { x: t, y: t.map((time) => 10 ** size * Math.exp(rate * time)), colour: "quiet", dash: [5, 5], name: "eq. (23)" },
      ],
    });
    const values = (time) => axis().toValues(fromModes(perturbed(k, j, size), time, axis().n).b);
    const [steady, u] = [axis().toValues(fromModes([[k, 1]], 0, axis().n).b), values(now)];
    const most = 1.1 * Math.max(...steady.map(Math.abs), ...u.map(Math.abs));
    plot(figures.u, {
      x: [0, 1], y: [-most, most], xLabel: "x", yLabel: "u",
      curves: [{ x: axis().x, y: steady, colour: "faint" }, { x: axis().x, y: u, colour: "first" }],
    });
    drawCascade(state);
    const verdict = k === j ? "fixed by the constraint" : rate > 0 ? "unstable" : "stable";
    view.show({ "μk − μj, eq. (23)": decimal(rate, 8), "measured at first": decimal(measuredRate(state), 8), verdict });
  }

  function drawCascade({ two, one }) {
    const t = Array.from({ length: 201 }, (_, i) => (CASCADE_END * i) / 200);
    const states = t.map((time) => fromModes([[5, 1], [2, 10 ** two], [1, 10 ** one]], time));
    plot(figures.cascade, {
      x: [0, CASCADE_END], y: [1e-14, 100], logY: true, xLabel: "t", yLabel: "amplitude",
      curves: [[5, "first"], [2, "second"], [1, "third"]].map(([mode, colour]) => ({
        x: t, y: states.map((state) => Math.max(1e-300, Math.abs(state.b[mode]))), colour, name: `|b${mode}|`,
      })),
    });
    plot(figures.multiplier, {
      x: [0, CASCADE_END], y: [5, 500], logY: true, xLabel: "t", yLabel: "λ",
      curves: [
        ...[5, 2, 1].map((mode) => ({ x: [0, CASCADE_END], y: [axis().mu[mode], axis().mu[mode]], colour: "quiet", width: 1, dash: [5, 5] })),
        { x: t, y: states.map((state) => state.multiplier), colour: "second" },
      ],
    });
  }

  function python({ k, j, size, two, one, ...state }) {
    const end = Number(horizon({ k, j, size, ...state }).toPrecision(4));
    return [
      "import numpy as np",
      "from diffmath.pde import Box, RenormalizedFlow",
      "",
      "flow = RenormalizedFlow(Box(256))",
      `ds = flow.solve_modes(${k === j ? `{${k}: ${1 + 10 ** size}}` : `{${k}: 1.0, ${j}: ${10 ** size}}`}, np.linspace(0, ${end}, 121))`,
      `b = np.abs(ds.amplitude.sel(k_x=${j}).values)`,
      `print(np.log(b[1] / b[0]) / float(ds.time[1]), flow.growth_rate(${k}, ${j}))`,
      `cascade = flow.solve_modes({5: 1.0, 2: ${10 ** two}, 1: ${10 ** one}}, np.linspace(0, ${CASCADE_END}, 201))`,
      "print(cascade.multiplier.values[::20])",
    ].join("\n");
  }
}
