// Images that are drawn by hand: 32 x 32 points of ink, kept as 256 hexadecimal digits, and blurred a little.

export const SIDE = 32;
export const BLANK = "0".repeat(256);
export const PATTERN = /^[0-9a-f]{256}$/;
const BLUR = [1, 2, 1];

const inked = (drawing, row, column) =>
  row >= 0 && row < SIDE && column >= 0 && column < SIDE &&
  ((parseInt(drawing[row * 8 + (column >> 2)], 16) >> (3 - (column & 3))) & 1) === 1;

// The pixels in [-1, 1]. The blur adds up to 16 / 12, so that strokes are white within.
export function imageOf(drawing) {
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => {
    let ink = 0;
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        if (inked(drawing, Math.floor(i / SIDE) + dy, (i % SIDE) + dx)) ink += (BLUR[dy + 1] * BLUR[dx + 1]) / 12;
      }
    }
    return 2 * Math.min(1, ink) - 1;
  });
}

// The drawing with a square of 2 x 2 points more, or less.
export function withInk(drawing, row, column, ink = true) {
  const digits = Array.from(drawing, (digit) => parseInt(digit, 16));
  for (const [r, c] of [[row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1]]) {
    if (r >= SIDE || c >= SIDE || r < 0 || c < 0) continue;
    const bit = 1 << (3 - (c & 3));
    digits[r * 8 + (c >> 2)] = ink ? digits[r * 8 + (c >> 2)] | bit : digits[r * 8 + (c >> 2)] & ~bit;
  }
  return digits.map((digit) => digit.toString(16)).join("");
}
