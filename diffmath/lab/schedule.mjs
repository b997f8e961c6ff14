// The forward process: diffmath/schedule.py in JavaScript. Times are integers, 0 for the image and 1..T for the noise.

export class VarianceSchedule {
  // `beta` holds beta_1..beta_T.
  constructor(beta) {
    this.n_steps = beta.length;
    this.logs = new Float64Array(beta.length + 1); // log alpha_bar_t, by log1p: 1 - alpha_bar would cancel for small t
    for (let t = 1; t <= beta.length; t++) this.logs[t] = this.logs[t - 1] + Math.log1p(-beta[t - 1]);
  }

  static linear(n, beta_1 = 1e-4, beta_T = 0.02) {
    return new VarianceSchedule(Array.from({ length: n }, (_, i) => beta_1 + ((beta_T - beta_1) * i) / Math.max(1, n - 1)));
  }

  // Nichol and Dhariwal (2021), eq. (17).
  static cosine(n, offset = 0.008, most = 0.999) {
    const angle = (t) => ((Math.PI / 2) * (t / n + offset)) / (1 + offset);
    const beta = (t) => {
      const [before, after] = [angle(t - 1), angle(t)];
      return (Math.sin(after - before) * Math.sin(after + before)) / Math.cos(before) ** 2;
    };
    return new VarianceSchedule(Array.from({ length: n }, (_, i) => Math.min(beta(i + 1), most)));
  }

  // The pair alpha_t|s and v_t|s of p(x_t | x_s); eq. (9) for s = 0.
  transition(t, s = 0) {
    const log = this.logs[t] - this.logs[s];
    return [Math.exp(log), -Math.expm1(log)];
  }

  // Eq. (8): x_t = sqrt(alpha_bar_t) x_0 + sqrt(v_t) eps.
  addNoise(x_0, eps, t) {
    const [signal, noise] = this.transition(t).map(Math.sqrt);
    return x_0.map((value, i) => signal * value + noise * eps[i]);
  }
}

// Times for a walk from `last` down to 0 in n steps, as equally spaced as integers can be.
export function times(last, n) {
  const count = Math.min(n, last);
  return Array.from({ length: count + 1 }, (_, i) => Math.floor(((count - i) * last) / count));
}
