// The files that the page carries in base64.

import { memo } from "./text.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { VarianceSchedule } from "./schedule.mjs";

// The bytes of one: "kernel", "checkpoint" or "images".
export function embedded(id) {
  return Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0)).buffer;
}

// Ten digits of 32 x 32 pixels in [-1, 1], one of each class, and the moments of MNIST.
export const images = memo(() => readSafetensors(embedded("images")));

export function digit(label) {
  return images().digits.values.slice(1024 * label, 1024 * (label + 1));
}

// The paper's schedule, which the network was trained with.
export const paperSchedule = memo(() => VarianceSchedule.linear(500));
