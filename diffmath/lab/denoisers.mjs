// Exact denoisers E[eps | x_t] of data whose law is known, guidance, and the matched start: diffmath/ddpm/denoisers.py,
// guidance.py and starts.py in JavaScript. Each denoiser is a function predict(x, t, out).

// A Gaussian of many pixels by its mean and the principal axes of its covariance, from the tensors of the page.
export class Moments {
  constructor({ mean, variances, axes, scales }) {
    this.mean = mean.values;
    this.variances = variances.values;
    const [integers, factors, d] = [axes.values, scales.values, this.mean.length];
    this.axes = Float64Array.from(integers, (value, i) => value * factors[Math.floor(i / d)]);
  }

  // f(C) x for a function f of the covariance's eigenvalues; the axes that are left out have the eigenvalue 0.
  apply(f, x) {
    const d = x.length;
    const [rest, result] = [f(0), Float64Array.from(x)];
    for (let i = 0; i < d; i++) result[i] *= rest;
    this.variances.forEach((variance, k) => {
      let along = 0;
      for (let i = 0; i < d; i++) along += this.axes[k * d + i] * x[i];
      along *= f(variance) - rest;
      for (let i = 0; i < d; i++) result[i] += along * this.axes[k * d + i];
    });
    return result;
  }
}

// E[eps | x_t] = sqrt(v_t) (alpha_bar_t C + v_t I)^-1 (x_t - sqrt(alpha_bar_t) m)
export function gaussianDenoiser(schedule, moments) {
  return (x, t, out) => {
    const [alpha_bar, variance] = schedule.transition(t);
    const gap = Float64Array.from(x, (value, i) => value - Math.sqrt(alpha_bar) * moments.mean[i]);
    out.set(moments.apply((c) => Math.sqrt(variance) / (alpha_bar * c + variance), gap));
    return out;
  };
}

// Autoguidance (Karras et al. 2024): eps + w (eps - eps_ref) at the times of an interval.
export function guided(network, reference, weight, [first, last]) {
  if (weight === 0) return network;
  return (x, t, out) => {
    network(x, t, out);
    if (t < first || t > last) return out;
    const other = reference(x, t, out.slice());
    for (let i = 0; i < out.length; i++) out[i] += weight * (out[i] - other[i]);
    return out;
  };
}

// x_T = sqrt(alpha_bar_T) m + S z, with S the root of alpha_bar_T C + v_T I, for standard Gaussian z.
export function matchedStart(schedule, moments, z) {
  const [alpha_bar, variance] = schedule.transition(schedule.n_steps);
  const noise = moments.apply((c) => Math.sqrt(alpha_bar * c + variance), z);
  return Float32Array.from(noise, (value, i) => Math.sqrt(alpha_bar) * moments.mean[i] + value);
}

// The denoiser of many independent numbers x, each from the mixture of Gaussians N(m_i, s^2) of equal weights.
export function mixtureDenoiser(schedule, means, variance) {
  return (x, t, out) => {
    const [alpha_bar, rest] = schedule.transition(t);
    const spread = alpha_bar * variance + rest;
    const centres = means.map((mean) => Math.sqrt(alpha_bar) * mean);
    const factor = Math.sqrt(rest) / spread;
    for (let j = 0; j < x.length; j++) {
      let [total, sum, least] = [0, 0, Infinity];
      for (const centre of centres) least = Math.min(least, (x[j] - centre) ** 2);
      for (const centre of centres) {
        const share = Math.exp((least - (x[j] - centre) ** 2) / (2 * spread));
        total += share;
        sum += share * (x[j] - centre);
      }
      out[j] = (factor * sum) / total;
    }
    return out;
  };
}
