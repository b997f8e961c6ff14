// The renormalised heat flow (20)-(22) on [0, 1], exact in the eigenfunctions: diffmath/pde/spectral.py in JavaScript.
//
// With amplitudes c_k of the modes w_k, -Lap w_k = mu_k w_k, the flow is the heat flow c_k exp(-mu_k t), rescaled to the
// norm that is preserved. The shares p_k = mu_k c_k^2 / C are a softmax, and lambda(t) = sum_k mu_k p_k(t).

export const BOUNDARIES = ["no-flux", "periodic", "fixed"];
export const NORMS = { gradient: 1, value: 0, laplacian: 2, total_variation: null }; // the power of mu, if it is a sum
const HORIZON = 1e18; // in units of 1 / mu_1: as good as infinity
const FLAT = 1e-10; // relative to the largest slope

// [0, 1] in n cells with a boundary condition at both ends. `waves` are the integers m of mu = (period m pi)^2.
export class Axis {
  constructor(n, boundary) {
    this.n = n;
    this.x = Float64Array.from({ length: n }, (_, i) => (i + 0.5) / n);
    this.boundary = boundary;
    this.first = boundary === "fixed" ? 1 : 0; // the number of the first mode
    const periodic = boundary === "periodic";
    this.period = periodic ? 2 : 1;
    this.waves = Int32Array.from({ length: n }, (_, k) => (periodic ? Math.ceil(k / 2) : k + this.first));
    this.mu = Float64Array.from(this.waves, (m) => (this.period * m * Math.PI) ** 2);
    this.lowest = this.mu.find((mu) => mu > 0);
    // The modes and their slopes at the cell centres, one after the other.
    this.modes = new Float64Array(n * n);
    this.slopes = new Float64Array(n * n);
    for (let k = 0; k < n; k++) {
      const isSine = boundary === "fixed" || (periodic && (k % 2 === 0 || k === n - 1) && k > 0);
      // The last wave of the grid is +1, -1, ...; where it is a sine, its square has the mean 1, not 1/2.
      const last = isSine && this.period * this.waves[k] === n;
      const size = this.waves[k] === 0 || last ? 1 : Math.SQRT2;
      const rate = this.period * this.waves[k] * Math.PI;
      for (let i = 0; i < n; i++) {
        // The angle rate x_i, reduced to [0, 2 pi) while it is an integer times pi / 2n.
        const angle = (((this.period * this.waves[k] * (2 * i + 1)) % (4 * n)) * Math.PI) / (2 * n);
        this.modes[k * n + i] = size * (isSine ? Math.sin(angle) : Math.cos(angle));
        this.slopes[k * n + i] = last ? 0 : size * rate * (isSine ? Math.cos(angle) : -Math.sin(angle));
      }
    }
  }

  // The amplitudes c_k of grid values u.
  toModes(u) {
    const c = new Float64Array(this.n);
    for (let k = 0; k < this.n; k++) {
      let sum = 0;
      for (let i = 0; i < this.n; i++) sum += this.modes[k * this.n + i] * u[i];
      c[k] = sum / this.n;
    }
    return c;
  }

  // The grid values of amplitudes, or the slopes there.
  toValues(c, basis = this.modes) {
    const u = new Float64Array(this.n);
    for (let k = 0; k < this.n; k++) {
      if (c[k] === 0) continue;
      for (let i = 0; i < this.n; i++) u[i] += c[k] * basis[k * this.n + i];
    }
    return u;
  }
}

const integral = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// N(u) for a norm of `NORMS`.
function size(axis, c, norm) {
  if (norm === "total_variation") return integral(axis.toValues(c, axis.slopes).map(Math.abs));
  return Math.sqrt(c.reduce((sum, value, k) => sum + axis.mu[k] ** NORMS[norm] * value * value, 0));
}

// The share of each mode in the preserved quantity, or, if that is no sum over modes, in the energy (21).
function shares(axis, c, norm) {
  const power = NORMS[norm] ?? 1;
  const parts = c.map((value, k) => axis.mu[k] ** power * value * value);
  const total = parts.reduce((sum, value) => sum + value, 0);
  return parts.map((part) => part / total);
}

// lambda: the mean of mu under the shares, or the derivative of the total variation along the heat flow.
function multiplier(axis, c, norm, p) {
  if (norm !== "total_variation") return p.reduce((sum, share, k) => sum + share * axis.mu[k], 0);
  const along = axis.toValues(c, axis.slopes);
  const by = axis.toValues(c.map((value, k) => axis.mu[k] * value), axis.slopes);
  const steepest = along.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const products = by.map((value, i) => (Math.abs(along[i]) > FLAT * steepest ? Math.sign(along[i]) * value : 0));
  return integral(products) / integral(along.map(Math.abs));
}

// The flow from amplitudes c at time t, which may be infinite. The mean is removed, as (21) does not constrain it.
// Each mode is computed relative to the largest at time t, so that nothing underflows:
// v_j = c_j / |c_k| exp(-(mu_j - mu_k) t), with the differences taken of integers.
export function evolve(axis, c, t, norm = "gradient") {
  const start = c.map((value, k) => (axis.mu[k] > 0 ? value : 0));
  if (start.every((value) => value === 0)) return null; // a constant has no flow
  const s = Math.min(t, HORIZON / axis.lowest);
  let largest = -1;
  let most = -Infinity;
  start.forEach((value, j) => {
    const height = Math.log(Math.abs(value)) - axis.mu[j] * s;
    if (value !== 0 && (largest < 0 || height > most)) [largest, most] = [j, height];
  });
  const unit = (axis.period * Math.PI) ** 2;
  const v = start.map((value, j) => {
    const gap = unit * (axis.waves[j] ** 2 - axis.waves[largest] ** 2);
    return value === 0 ? 0 : (value / Math.abs(start[largest])) * Math.exp(-gap * s);
  });
  const factor = size(axis, start, norm) / size(axis, v, norm);
  const b = v.map((value) => value * factor);
  const p = shares(axis, v, norm);
  const energy = b.reduce((sum, value, k) => sum + axis.mu[k] * value * value, 0);
  const N = size(axis, b, norm);
  const preserved = NORMS[norm] === null ? N : N * N;
  return { b, shares: p, multiplier: multiplier(axis, v, norm, p), energy, preserved };
}

// The initial conditions of diffmath/pde/initial.py.
export function step(axis, position = 0.4) {
  return axis.x.map((_, i) => 1 - 2 * Math.min(1, Math.max(0, position * axis.n - i)));
}

export function bump(axis, position = 0.3, width = 0.1) {
  return axis.x.map((x) => Math.exp(-(((x - position) / width) ** 2) / 2));
}

// The piecewise linear function of values at equally spaced knots from 0 to 1, as numpy's interp.
export function interpolate(axis, values) {
  return axis.x.map((x) => {
    const at = x * (values.length - 1);
    const i = Math.min(Math.floor(at), values.length - 2);
    return values[i] + (at - i) * (values[i + 1] - values[i]);
  });
}

// Eq. (23): the rate mu_k - mu_j of a perturbation by mode j of the steady state of mode k.
export function growthRate(axis, k, j) {
  return (axis.period * Math.PI) ** 2 * (axis.waves[k - axis.first] ** 2 - axis.waves[j - axis.first] ** 2);
}
