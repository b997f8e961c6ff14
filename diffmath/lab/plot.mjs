// Drawing on canvases: curves, bars and images, in the colours of lab.css.

const TICK = 12; // pixels of a label's height

// A canvas scaled to the screen, cleared, and what is needed to draw on it in CSS pixels.
export function prepared(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  return { context, width, height, colour };
}

// The frame of a plot: margins, and the maps from data to pixels.
function frame(width, height, { x, y, logX, logY }) {
  const margin = { left: 52, right: 12, top: 10, bottom: 34 };
  const along = (value, [low, high], log) =>
    log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const toX = (value) => margin.left + along(value, x, logX) * (width - margin.left - margin.right);
  const toY = (value) => height - margin.bottom - along(value, y, logY) * (height - margin.top - margin.bottom);
  return { margin, toX, toY };
}

// Round numbers between two, five or so; powers of ten on a logarithmic axis.
export function ticks([low, high], log) {
  if (log) {
    const first = Math.ceil(Math.log10(low) - 1e-9);
    const last = Math.floor(Math.log10(high) + 1e-9);
    const step = Math.max(1, Math.ceil((last - first) / 5));
    return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => 10 ** (first + i * step));
  }
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function label(value, log) {
  if (!log) return String(Number(value.toPrecision(6))).replace("-", "−");
  return `10${[...String(Math.round(Math.log10(value)))].map((digit) => SUPERSCRIPTS[digit]).join("")}`;
}

// Draw a plot: `x` and `y` are the ranges of the axes, `curves` have x, y, colour, and may have width, dash and name;
// `bars` have x, width, height and colour; `marks` are vertical lines at x.
export function plot(canvas, { x, y, xLabel, yLabel, logX = false, logY = false, curves = [], bars = [], marks = [] }) {
  const { context, width, height, colour } = prepared(canvas);
  const { margin, toX, toY } = frame(width, height, { x, y, logX, logY });
  context.font = `${TICK}px system-ui, sans-serif`;
  context.lineWidth = 1;
  for (const value of ticks(x, logX)) {
    line(context, colour("grid"), [toX(value), toX(value)], [margin.top, height - margin.bottom]);
    text(context, colour("quiet"), label(value, logX), toX(value), height - margin.bottom + TICK + 3, "center");
  }
  for (const value of ticks(y, logY)) {
    line(context, colour("grid"), [margin.left, width - margin.right], [toY(value), toY(value)]);
    text(context, colour("quiet"), label(value, logY), margin.left - 5, toY(value) + TICK / 3, "right");
  }
  text(context, colour("quiet"), xLabel, width - margin.right, height - 4, "right");
  context.save();
  context.translate(TICK, margin.top);
  context.rotate(-Math.PI / 2);
  text(context, colour("quiet"), yLabel, 0, 0, "right");
  context.restore();

  context.save();
  context.beginPath();
  context.rect(margin.left, margin.top, width - margin.left - margin.right, height - margin.top - margin.bottom);
  context.clip();
  for (const bar of bars) {
    context.fillStyle = colour(bar.colour);
    const left = toX(bar.x - bar.width / 2);
    const top = toY(bar.height);
    context.fillRect(left, top, Math.max(1, toX(bar.x + bar.width / 2) - left - 1), height - margin.bottom - top);
  }
  for (const at of marks) line(context, colour("accent"), [toX(at), toX(at)], [margin.top, height - margin.bottom]);
  for (const curve of curves) {
    context.lineWidth = curve.width ?? 2;
    context.setLineDash(curve.dash ?? []);
    line(context, colour(curve.colour), Array.from(curve.x, toX), Array.from(curve.y, toY));
  }
  context.restore();
  context.setLineDash([]);
  legend(context, colour, curves.filter((curve) => curve.name), width - margin.right - 6, margin.top + TICK + 2);
}

function line(context, stroke, xs, ys) {
  context.strokeStyle = stroke;
  context.beginPath();
  xs.forEach((x, i) => (Number.isFinite(ys[i]) ? context.lineTo(x, ys[i]) : undefined));
  context.stroke();
}

function text(context, fill, words, x, y, align) {
  context.fillStyle = fill;
  context.textAlign = align;
  context.fillText(words, x, y);
}

function legend(context, colour, curves, right, top) {
  curves.forEach(({ name, colour: key }, i) => {
    const [width, y] = [context.measureText(name).width, top + i * (TICK + 4)];
    context.fillStyle = colour("paper");
    context.fillRect(right - width - 3, y - TICK, width + 6, TICK + 4);
    text(context, colour(key), name, right, y, "right");
  });
}

// The data coordinates of a pointer over a plot of the given ranges.
export function pointed(canvas, event, ranges) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const { margin } = frame(width, height, ranges);
  const { x, y } = ranges;
  const alongX = (event.clientX - left - margin.left) / (width - margin.left - margin.right);
  const alongY = (height - margin.bottom - (event.clientY - top)) / (height - margin.top - margin.bottom);
  return [x[0] + alongX * (x[1] - x[0]), y[0] + alongY * (y[1] - y[0])];
}

// Draw grey images of `side` x `side` pixels, -1 black and 1 white, in rows of `columns` on one canvas.
export function drawImages(canvas, images, side, columns) {
  const { context, width, colour } = prepared(canvas);
  const gap = columns > 1 ? 4 : 0;
  const size = Math.floor((width - gap * (columns - 1)) / columns);
  context.imageSmoothingEnabled = false;
  const small = new OffscreenCanvas(side, side);
  const pen = small.getContext("2d");
  images.forEach((image, i) => {
    const pixels = pen.createImageData(side, side);
    for (let j = 0; j < side * side; j++) {
      const shade = image ? Math.min(255, Math.max(0, Math.round((image[j] + 1) * 127.5))) : 0;
      pixels.data.set([shade, shade, shade, 255], 4 * j);
    }
    pen.putImageData(pixels, 0, 0);
    const [left, top] = [(i % columns) * (size + gap), Math.floor(i / columns) * (size + gap)];
    context.drawImage(small, left, top, size, size);
    context.strokeStyle = colour("grid");
    context.strokeRect(left + 0.5, top + 0.5, size - 1, size - 1);
  });
}
