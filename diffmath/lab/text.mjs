// Numbers as text, and results kept for the arguments they came from.

// A number with some significant digits, small and large ones with a power of ten.
export function decimal(value, digits) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e6 ? value.toPrecision(digits) : value.toExponential(digits - 1);
  return text.replace("e+", "e").replace("-", "−").replace("e-", "e−");
}

// The function, which remembers its results of the last few lists of arguments.
export function memo(compute, most = 8) {
  const results = new Map();
  return (...given) => {
    const key = JSON.stringify(given);
    if (!results.has(key)) {
      if (results.size >= most) results.delete(results.keys().next().value);
      results.set(key, compute(...given));
    }
    return results.get(key);
  };
}
