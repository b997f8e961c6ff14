// Random numbers from a seed: the same on every machine.

// Mulberry32 by T. Ettinger: uniform numbers in [0, 1).
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  };
}

// Independent standard Gaussian numbers, by Box and Muller; `stream` tells several sequences of one seed apart.
export class Gaussian {
  constructor(seed, stream = 0) {
    this.uniform = uniform(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b));
  }

  fill(array) {
    for (let i = 0; i < array.length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      array[i] = radius * Math.cos(angle);
      if (i + 1 < array.length) array[i + 1] = radius * Math.sin(angle);
    }
    return array;
  }
}
