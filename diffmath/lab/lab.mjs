// The lab: the pages in their order. What tests and the browser's console may call is `window.lab`.

import { Axis, evolve } from "./flow.mjs";
import { start } from "./shell.mjs";
import { flowPage } from "./pages/flow.mjs";
import { stabilityPage } from "./pages/stability.mjs";

const { view } = start([flowPage, stabilityPage]);
window.lab = { view, Axis, evolve };
