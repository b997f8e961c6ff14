// Sampling by several Workers: each has the network, and takes a share of the samples.

import { embedded } from "./data.mjs";

const MOST = 4; // workers, each with 20 MB of weights

export class Crew {
  constructor() {
    this.workers = [];
    this.run = 0;
  }

  // Workers with the network: as many as there are cores or samples.
  hire(n) {
    const wanted = Math.min(n, MOST, navigator.hardwareConcurrency || 2);
    if (this.workers.length >= wanted) return this.workers.slice(0, wanted);
    this.files ??= { kernel: embedded("kernel"), checkpoint: embedded("checkpoint"), images: embedded("images") };
    // A Worker runs the same program, which knows that it has no document.
    const program = new Blob([document.getElementById("program").textContent], { type: "text/javascript" });
    const address = URL.createObjectURL(program);
    while (this.workers.length < wanted) {
      const worker = new Worker(address);
      worker.postMessage(this.files);
      this.workers.push(worker);
    }
    return this.workers;
  }

  // Sample: `settings` are method, times, eta, weight and seed; each of `samples` has an index, x_T, and perhaps noise.
  // After every step of all of them `onStep` gets {t, states, images}; where it returns false, no further step is asked for.
  // Resolves to the last of these.
  sample(settings, samples, onStep = () => true) {
    const run = ++this.run;
    const workers = this.hire(samples.length);
    const shares = workers.map((_, i) => samples.filter((_, j) => j % workers.length === i));
    return new Promise((resolve, reject) => {
      const answers = [];
      const collect = (i, data) => {
        if (data.run !== run) return; // of a run that was stopped
        answers[i] = data;
        if (answers.filter(Boolean).length < workers.length) return;
        const merge = (name) => samples.map((_, j) => answers[j % workers.length][name][Math.floor(j / workers.length)]);
        const step = { t: data.t, states: merge("states"), images: merge("images") };
        answers.length = 0;
        if (onStep(step) === false || step.t === 0) resolve(step);
        else workers.forEach((worker) => worker.postMessage({ run }));
      };
      workers.forEach((worker, i) => {
        worker.onmessage = ({ data }) => collect(i, data);
        worker.onerror = (event) => reject(new Error(event.message));
        worker.postMessage({ run, ...settings, samples: shares[i] });
      });
    });
  }
}
