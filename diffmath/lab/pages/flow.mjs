// The page of the flow (22): from an initial condition to the first mode.

import { Axis, BOUNDARIES, bump, evolve, interpolate, step } from "../flow.mjs";
import { plot, pointed } from "../plot.mjs";
import { Gaussian } from "../random.mjs";
import { decimal, memo } from "../text.mjs";

const N = 256;
const KNOTS = 33; // of a drawn function, at 0, 1/32, ..., 1
const LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcde"; // -1, -0.95, ..., 1
const AMPLITUDES = [1, 2, 3, 4, 5, 6];
const SHOWN = 24; // modes in the plot of the shares
const [FIRST, LAST] = [-6, 1]; // of log10 t

export const axisOf = memo((boundary, n = N) => new Axis(n, boundary));

const isDrawn = (state) => state.initial === "drawn";
const ofModes = (state) => state.initial === "modes";
const decode = (curve) => Array.from(curve, (letter) => LEVELS.indexOf(letter) / 20 - 1);
const encode = (values) => values.map((v) => LEVELS[Math.round((Math.min(1, Math.max(-1, v)) + 1) * 20)]).join("");

// The amplitudes c_k of the initial condition.
export function amplitudes(axis, state) {
  if (ofModes(state)) {
    const c = new Float64Array(axis.n);
    for (const k of AMPLITUDES) c[k - axis.first] = state[`a${k}`];
    return c;
  }
  if (isDrawn(state)) return axis.toModes(interpolate(axis, decode(state.curve)));
  if (state.initial === "noise") return axis.toModes(new Gaussian(state.seed).fill(new Float64Array(axis.n)));
  return axis.toModes({ step, bump }[state.initial](axis));
}

// lambda, the energy and the preserved quantity at many times; they are kept while only t changes.
const history = memo((boundary, norm, ...initial) => {
  const axis = axisOf(boundary);
  const c = amplitudes(axis, Object.fromEntries(initial));
  const t = Array.from({ length: 71 }, (_, i) => 10 ** (FIRST + ((LAST - FIRST) * i) / 70));
  return { c, t, states: t.map((time) => evolve(axis, c, time, norm)) };
});

export function historyOf({ t, infinite, boundary, norm, ...initial }) {
  return history(boundary, norm, ...Object.entries(initial));
}

export const timeOf = (state) => (state.infinite ? Infinity : 10 ** state.t);

export const flowPage = {
  id: "flow",
  title: "Flow",
  summary: `The heat flow that keeps its energy, (22): <i>u<sub>t</sub></i> = Δ<i>u</i> + <i>λ</i>(<i>t</i>) <i>u</i>. Each mode
    <i>w<sub>k</sub></i> decays as in the heat equation, and all are rescaled together, so the shares <i>p<sub>k</sub></i> of the
    modes are a softmax and <i>λ</i> = Σ <i>μ<sub>k</sub> p<sub>k</sub></i> never rises. At the end one mode is left.`,
  controls: {
    initial: {
      kind: "choice", label: "Initial condition", value: "step",
      options: [["step", "a step"], ["bump", "a bump"], ["noise", "noise"], ["drawn", "drawn by you"], ["modes", "a sum of modes"]],
    },
    seed: { kind: "range", label: "Seed", min: 0, max: 99, step: 1, value: 0, when: (state) => state.initial === "noise" },
    curve: { kind: "text", label: "Curve", pattern: /^[0-9A-Za-e]{33}$/, value: "KKKKPTXZZXTPKKKKKKKKKFA55AFKKKKKK" },
    ...Object.fromEntries(AMPLITUDES.map((k) => [`a${k}`, {
      kind: "range", label: `Amplitude of w${k}`, min: -1, max: 1, step: 0.05, value: k === 5 ? 1 : k === 2 ? 0.1 : 0, when: ofModes,
    }])),
    t: { kind: "range", label: "Time t", min: FIRST, max: LAST, step: 0.05, value: -3, format: (t) => decimal(10 ** t, 3) },
    infinite: { kind: "toggle", label: "t = ∞", value: false },
    norm: {
      kind: "choice", label: "What is kept", value: "gradient",
      options: [["gradient", "∫ |∇u|², eq. (21)"], ["value", "∫ u²"], ["laplacian", "∫ (Δu)²"], ["total_variation", "∫ |∇u|"]],
    },
    boundary: { kind: "choice", label: "Boundary", value: "no-flux", options: BOUNDARIES.map((name) => [name, name]) },
  },
  build,
};

function build(view) {
  const keys = "Draw with the pointer, or focus it and press the arrow keys.";
  const figures = {
    u: view.figure("The flow u(x, t), and its initial condition, faint.", { keys }),
    shares: view.figure("The shares p of the modes k."),
    multiplier: view.figure("The multiplier λ(t); the line is the present time."),
    energy: view.figure("The energy ∫ |∇u|² over its initial value."),
  };
  let ranges = { x: [0, 1], y: [-1, 1] };
  let knot = 0; // that the arrow keys change
  let playing = 0;
  const play = view.button("Play", () => (playing ? stop() : begin()));

  function stop() {
    cancelAnimationFrame(playing);
    playing = 0;
    play.textContent = "Play";
  }

  function begin() {
    play.textContent = "Pause";
    const start = performance.now();
    const from = view.state.t >= LAST || view.state.infinite ? FIRST : view.state.t;
    const frame = (now) => {
      const t = Math.min(LAST, from + (now - start) / 1200); // a decade takes 1.2 seconds
      playing = t < LAST ? requestAnimationFrame(frame) : 0;
      if (!playing) stop();
      view.set({ t: Math.round(t * 20) / 20, infinite: false });
    };
    playing = requestAnimationFrame(frame);
  }

  // The drawing with one knot changed; it begins as the initial condition that there is.
  function drawn(i, change) {
    const axis = axisOf(view.state.boundary);
    const u = axis.toValues(amplitudes(axis, view.state));
    const at = (j) => u[Math.min(N - 1, Math.round((j * N) / (KNOTS - 1)))];
    const values = isDrawn(view.state) ? decode(view.state.curve) : Array.from({ length: KNOTS }, (_, j) => at(j));
    values[i] = change(values[i]);
    knot = i;
    view.set({ initial: "drawn", curve: encode(values) });
  }

  function onPointer(event) {
    if (event.buttons === 0) return;
    const [x, y] = pointed(figures.u, event, ranges);
    drawn(Math.min(KNOTS - 1, Math.max(0, Math.round(x * (KNOTS - 1)))), () => y);
  }
  figures.u.addEventListener("pointerdown", onPointer);
  figures.u.addEventListener("pointermove", onPointer);
  figures.u.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const lift = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
    if (!move && !lift) return;
    event.preventDefault();
    if (lift) drawn(knot, (value) => value + lift);
    else {
      knot = Math.min(KNOTS - 1, Math.max(0, knot + move));
      view.draw();
    }
  });
  for (const event of ["focus", "blur"]) figures.u.addEventListener(event, () => view.draw());

  return { draw, python, leave: stop };

  function draw(state) {
    const axis = axisOf(state.boundary);
    const { c, t, states } = historyOf(state);
    const time = timeOf(state);
    const now = evolve(axis, c, time, state.norm);
    if (!now) {
      view.show({ "u is constant": "there is no flow" });
      return;
    }
    const [u_0, u] = [axis.toValues(c), axis.toValues(now.b)];
    const most = Math.max(...u_0.map(Math.abs), ...u.map(Math.abs));
    ranges = { x: [0, 1], y: [-1.1 * most, 1.1 * most] };
    if (isDrawn(state)) ranges.y = [-Math.max(1.1, 1.1 * most), Math.max(1.1, 1.1 * most)];
    const marks = document.activeElement === figures.u ? [knot / (KNOTS - 1)] : [];
    plot(figures.u, {
      ...ranges, xLabel: "x", yLabel: "u", marks,
      curves: [{ x: axis.x, y: u_0, colour: "faint" }, { x: axis.x, y: u, colour: "first" }],
    });
    const bars = Array.from(now.shares.slice(0, SHOWN), (height, i) => ({ x: i + axis.first, width: 0.9, height, colour: "first" }));
    plot(figures.shares, { x: [axis.first - 0.5, SHOWN + axis.first - 0.5], y: [0, 1], xLabel: "k", yLabel: "share", bars });
    const lambda = states.map((one) => one.multiplier);
    const x = [t[0], t.at(-1)];
    const marksAt = Number.isFinite(time) ? [time] : [];
    plot(figures.multiplier, {
      x, y: [lambda.at(-1) / 2, lambda[0] * 2], logX: true, logY: true, xLabel: "t", yLabel: "λ", marks: marksAt,
      curves: [{ x: t, y: lambda, colour: "second" }],
    });
    const start = evolve(axis, c, 0, state.norm);
    const energies = states.map((one) => one.energy / start.energy);
    plot(figures.energy, {
      x, y: [0, 1.2 * Math.max(1, ...energies)], logX: true, xLabel: "t", yLabel: "energy", marks: marksAt,
      curves: [{ x: t, y: energies, colour: "third" }],
    });
    const largest = now.shares.indexOf(Math.max(...now.shares));
    view.show({
      "λ(t)": decimal(now.multiplier, 7), "energy ∫ |∇u|²": decimal(now.energy, 7), "what is kept": decimal(now.preserved, 7),
      "largest share": `k = ${largest + axis.first}: ${decimal(now.shares[largest], 5)}`,
    });
  }

  function python(state) {
    const time = state.infinite ? "np.inf" : String(Number((10 ** state.t).toPrecision(6)));
    const start = {
      step: "step(domain)", bump: "bump(domain)", noise: `noise(domain, rng=${state.seed})`,
      drawn: `np.interp(domain.coordinates[0], np.linspace(0, 1, ${KNOTS}), drawing)`,
    }[state.initial];
    const modes = AMPLITUDES.filter((k) => state[`a${k}`] !== 0).map((k) => `${k}: ${state[`a${k}`]}`).join(", ");
    return [
      "import numpy as np",
      "from diffmath.pde import Box, RenormalizedFlow",
      ...(["step", "bump", "noise"].includes(state.initial) ? [`from diffmath.pde.initial import ${state.initial}`] : []),
      "",
      `domain = Box(${N}, boundary="${state.boundary}")`,
      `flow = RenormalizedFlow(domain, preserve="${state.norm}")`,
      ...(state.initial === "noise" ? ["# other noise than the page's, which has a generator of its own"] : []),
      ...(isDrawn(state) ? [`drawing = [${decode(state.curve).map((v) => Number(v.toFixed(2))).join(", ")}]`] : []),
      ofModes(state) ? `ds = flow.solve_modes({${modes}}, [0, ${time}])` : `ds = flow.solve(${start}, [0, ${time}])`,
      "print(ds.multiplier.values, ds.energy.values)",
    ].join("\n");
  }
}
