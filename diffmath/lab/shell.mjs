// The frame of the lab: one page at a time, its controls, its state in the URL's hash, and its lines of Python.
//
// A page is a module with an object of
//   id, title, summary   the name in the hash, the name in the navigation, and HTML that says what there is to see
//   controls             by name: {label, kind: "range" | "choice" | "toggle", value, ...}, in the order of the page
//   build(view)          makes the figures, once, and returns {draw(state), python(state)}, and perhaps leave()

import { el } from "./elements.mjs";
import { makeControl } from "./controls.mjs";

const SHARED = ["image", "drawing"]; // what pages keep of each other's state: these names mean the same on all of them

// One page in the document.
class View {
  constructor(page, changed) {
    this.page = page;
    this.changed = changed;
    this.state = defaults(page);
    this.form = el("form", { class: "controls", "aria-label": `Controls of ${page.title}` });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.figures = el("div", { class: "figures" });
    this.numbers = el("dl", { class: "numbers", "aria-live": "polite" });
    this.python = el("code", {});
    const copy = el("button", { type: "button" }, "Copy");
    copy.addEventListener("click", () => navigator.clipboard?.writeText(this.python.textContent).catch(() => {}));
    const shown = el("details", { class: "python" }, el("summary", {}, "Show as Python"), el("pre", {}, this.python), copy);
    const summary = el("p", { class: "summary" });
    summary.innerHTML = page.summary;
    this.controls = {};
    for (const [name, control] of Object.entries(page.controls)) {
      this.controls[name] = makeControl(`${page.id}-${name}`, control, (value) => this.set({ [name]: value }));
      this.form.append(this.controls[name].element);
    }
    this.element = el("section", { id: `page-${page.id}`, class: "page", "aria-label": page.title, hidden: "" },
      el("h2", {}, page.title), summary,
      el("div", { class: "bench" }, el("div", {}, this.form, this.numbers), this.figures), shown);
    this.parts = page.build(this);
  }

  // A canvas with a caption; `height` is its share of the width, and `keys` says what the keyboard does there.
  figure(caption, { height = 0.5, keys = "" } = {}) {
    const canvas = el("canvas", { role: "img", "aria-label": caption, style: `aspect-ratio: ${1 / height}` });
    if (keys) Object.assign(canvas, { tabIndex: 0 }).setAttribute("aria-description", keys);
    this.figures.append(el("figure", {}, canvas, el("figcaption", {}, keys ? `${caption} ${keys}` : caption)));
    return canvas;
  }

  // A button beside the controls.
  button(name, action) {
    const button = el("button", { type: "button" }, name);
    button.addEventListener("click", action);
    this.form.append(button);
    return button;
  }

  // Show numbers under the controls, by name.
  show(numbers) {
    this.numbers.replaceChildren(
      ...Object.entries(numbers).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]),
    );
  }

  // Change part of the state, and draw.
  set(changes) {
    Object.assign(this.state, changes);
    this.changed(this);
    this.draw();
  }

  draw() {
    for (const [name, control] of Object.entries(this.controls)) control.show(this.state[name], this.state);
    this.parts.draw(this.state);
    this.python.textContent = this.parts.python(this.state);
  }
}

// The page of a hash such as #flow?t=-3, and its state: what is not given or not valid there has its default. A hash without
// a question mark gives no state, so that the page keeps its own.
export function fromHash(hash, pages) {
  const [id, query = ""] = hash.replace(/^#/, "").split("?");
  const page = pages.find((candidate) => candidate.id === id) ?? pages[0];
  const state = query ? defaults(page) : {};
  for (const [name, text] of new URLSearchParams(query)) {
    const control = Object.hasOwn(page.controls, name) ? page.controls[name] : null;
    const value = typeof control?.value === "number" ? Number(text) : control?.kind === "toggle" ? text === "true" : text;
    if (control && isValid(control, value, text)) state[name] = value;
  }
  return { page, state };
}

function defaults(page) {
  return Object.fromEntries(Object.entries(page.controls).map(([name, { value }]) => [name, value]));
}

function isValid({ kind, options, min, max, pattern }, value, text) {
  if (kind === "choice") return options.some(([option]) => option === value);
  if (kind === "range") return text !== "" && value >= min && value <= max;
  return kind === "toggle" ? ["true", "false"].includes(text) : pattern.test(text);
}

export function toHash(page, state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== page.controls[name].value);
  const query = new URLSearchParams(changed.map(([name, value]) => [name, String(value)])).toString();
  return `#${page.id}${query ? `?${query}` : ""}`;
}

// Fill the document with the pages, and follow its hash.
export function start(pages) {
  const main = document.querySelector("main");
  const navigation = document.querySelector("nav");
  const views = {};
  const shared = {};
  let current = null;
  let writing = 0; // the timer of the hash, which browsers let a page change a few times a second only
  const write = () => {
    writing = 0;
    history.replaceState(null, "", toHash(current.page, current.state));
  };
  const remember = (view) => {
    if (!writing) writing = setTimeout(write, 200);
    for (const name of SHARED) if (name in view.state) shared[name] = view.state[name];
  };
  const links = pages.map((page) => el("a", { href: `#${page.id}` }, page.title));
  navigation.append(...links);

  function open(hash) {
    const { page, state } = fromHash(hash, pages);
    if (!views[page.id]) {
      views[page.id] = new View(page, remember);
      main.append(views[page.id].element);
    }
    const view = views[page.id];
    if (current && current !== view) {
      current.parts.leave?.();
      current.element.hidden = true;
    }
    current = view;
    view.element.hidden = false;
    links.forEach((link, i) => link.setAttribute("aria-current", pages[i] === page ? "page" : "false"));
    document.title = `${page.title} – diffmath lab`;
    const kept = Object.entries(shared).filter(([name]) => name in page.controls);
    view.set({ ...Object.fromEntries(kept), ...state });
  }

  const redraw = () => current.draw();
  // Not location.hash, which `write` may have changed in the meantime.
  window.addEventListener("hashchange", (event) => open(new URL(event.newURL).hash));
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.querySelector("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });
  open(location.hash);
  return { view: () => current };
}
