// Ways back from noise to an image: diffmath/ddpm/samplers.py in JavaScript.
//
// A sampler is a generator of an array x, the state at the first of the walk's times, and of a walk: its `schedule` and
// `times`, predict(x, t, out), noise(), and eta. It changes x in place, and yields the time after every step.

// x = a x + b y
function update(x, a, b, y) {
  for (let i = 0; i < x.length; i++) x[i] = a * x[i] + b * y[i];
}

// Algorithm 2: eq. (19), for any jumps; the last adds no noise.
function* ancestral(x, { schedule, times, predict, noise }) {
  const eps = x.slice();
  for (let i = 1; i < times.length; i++) {
    const [t, s] = [times[i - 1], times[i]];
    const [alpha, variance] = schedule.transition(t, s);
    const [variance_t, variance_s] = [schedule.transition(t)[1], schedule.transition(s)[1]];
    predict(x, t, eps);
    update(x, 1 / Math.sqrt(alpha), -variance / Math.sqrt(alpha * variance_t), eps); // eq. (18)
    if (s > 0) update(x, 1, Math.sqrt((variance * variance_s) / variance_t), noise()); // eq. (15)
    yield s;
  }
}

// The coefficients of x, of the predicted noise and of fresh noise in a step of `ddim`.
function ddimStep(schedule, t, s, eta) {
  const [alpha, variance] = schedule.transition(t, s);
  const [variance_t, variance_s] = [schedule.transition(t)[1], schedule.transition(s)[1]];
  const sigma_2 = (eta ** 2 * variance * variance_s) / variance_t;
  const rest = (variance_s / variance_t) * ((1 - eta ** 2) * variance + alpha * variance_s);
  const b = -(sigma_2 + variance / alpha) / (Math.sqrt(rest) + Math.sqrt(variance_t / alpha));
  return [1 / Math.sqrt(alpha), b, Math.sqrt(sigma_2)];
}

// Song, Meng and Ermon (2021), eq. (12): deterministic at eta = 0, eq. (19) at eta = 1.
function* ddim(x, { schedule, times, predict, noise, eta }) {
  const eps = x.slice();
  for (let i = 1; i < times.length; i++) {
    const [a, b, c] = ddimStep(schedule, times[i - 1], times[i], eta);
    predict(x, times[i - 1], eps);
    update(x, a, b, eps);
    if (c > 0) update(x, 1, c, noise());
    yield times[i];
  }
}

// Heun's second-order method for the probability-flow ODE (Karras et al. 2022); the step to 0 is Euler's.
function* heun(x, { schedule, times, predict }) {
  const [first, second] = [x.slice(), x.slice()];
  for (let i = 1; i < times.length; i++) {
    const [a, b] = ddimStep(schedule, times[i - 1], times[i], 0);
    predict(x, times[i - 1], first);
    update(x, a, b, first);
    if (times[i] > 0) {
      predict(x, times[i], second);
      update(second, 1, -1, first);
      update(x, 1, b / 2, second);
    }
    yield times[i];
  }
}

// DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation a step.
function* dpmsolver(x, { schedule, times, predict }) {
  let [image, before, stepBefore] = [x.slice(), x.slice(), Infinity];
  for (let i = 1; i < times.length; i++) {
    const [t, s] = [times[i - 1], times[i]];
    const [alpha, variance] = schedule.transition(t, s);
    const [alpha_bar_t, variance_t] = schedule.transition(t);
    const [alpha_bar_s, variance_s] = schedule.transition(s);
    const ratio = Math.sqrt(variance_s / variance_t);
    predict(x, t, image);
    update(image, -Math.sqrt(variance_t / alpha_bar_t), 1 / Math.sqrt(alpha_bar_t), x); // eq. (8) for x_0
    const gain = (alpha_bar_s * variance) / (variance_t * (Math.sqrt(alpha_bar_s) + Math.sqrt(alpha_bar_t) * ratio));
    let slope = 0;
    if (s > 0) {
      const step = 0.5 * (Math.log(variance_t / variance_s) - Math.log(alpha));
      [slope, stepBefore] = [step / (2 * stepBefore), step]; // 0 in the first step
    }
    update(x, ratio, gain * (1 + slope), image);
    if (slope > 0) update(x, 1, -gain * slope, before);
    [image, before] = [before, image];
    yield s;
  }
}

export const SAMPLERS = { ancestral, ddim, heun, "dpmsolver++2m": dpmsolver };
