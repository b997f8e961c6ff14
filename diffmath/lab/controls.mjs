// Labelled controls: each is {element, show(value, state)}, and calls `changed` with its new value.

import { el } from "./elements.mjs";

export function makeControl(id, control, changed) {
  const input = MAKERS[control.kind](control);
  input.id = id;
  input.addEventListener("input", () => changed(READERS[control.kind](input)));
  const output = el("output", { for: id });
  const element = el("div", { class: `control ${control.kind}` }, el("label", { for: id }, control.label), input, output);
  const show = (value, state) => {
    element.hidden = control.when ? !control.when(state) : false;
    if (control.kind === "toggle") input.checked = value;
    else if (input.value !== String(value)) input.value = String(value);
    const words = control.format ? control.format(value) : value;
    output.textContent = control.kind === "range" ? words : "";
    if (control.kind === "range") input.setAttribute("aria-valuetext", words);
  };
  return { element, show };
}

const MAKERS = {
  range: ({ min, max, step }) => el("input", { type: "range", min, max, step }),
  choice: ({ options }) => el("select", {}, ...options.map(([value, words]) => el("option", { value }, words))),
  toggle: () => el("input", { type: "checkbox" }),
  text: () => el("input", { type: "hidden" }),
};

const READERS = {
  range: (input) => Number(input.value),
  choice: (input) => input.value,
  toggle: (input) => input.checked,
  text: (input) => input.value,
};
