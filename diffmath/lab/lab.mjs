// The lab: the pages in their order, or, in a Worker, the network. What tests and the console may call is `window.lab`.

import { digit, images, paperSchedule } from "./data.mjs";
import { matchedStart } from "./denoisers.mjs";
import { Axis, evolve } from "./flow.mjs";
import { VarianceSchedule } from "./schedule.mjs";
import { start } from "./shell.mjs";
import { serve } from "./worker.mjs";
import { backwardPage, crew, moments } from "./pages/backward.mjs";
import { exactPage } from "./pages/exact.mjs";
import { flowPage } from "./pages/flow.mjs";
import { forwardPage } from "./pages/forward.mjs";
import { stabilityPage } from "./pages/stability.mjs";

if (typeof document === "undefined") serve();
else {
  const { view } = start([forwardPage, backwardPage, exactPage, flowPage, stabilityPage]);
  window.lab = { view, Axis, evolve, VarianceSchedule, paperSchedule, digit, images, moments, matchedStart, crew };
}
