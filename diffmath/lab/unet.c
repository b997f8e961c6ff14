// The compact U-Net in C: the noise eps_theta(x_t, t) of one image, as diffmath/ddpm/unet.py computes it.
//
// Images are stored pixel by pixel, the channels of a pixel side by side. A convolution is a product of matrices: each
// output pixel is a row of inputs times weights. network.mjs packs the weights in the order in which `evaluate` takes
// them, with eight output channels side by side, so that one step of the product is two SIMD registers wide.

#include <wasm_simd128.h>

enum {
  C = 32,            // base width
  SIDE = 32,         // pixels of an image's side
  GROUPS = 32,       // in each normalisation
  EMBEDDING = 4 * C,
  N_WEIGHTS = 3254177 + 7 * (64 * 9 + 1),  // the parameters; the one channel of the output is padded to eight
  LARGEST = SIDE * SIDE * 2 * C,           // numbers of the largest image
  MOST_PIXELS = 256,                       // that attend to each other
};

typedef v128_t Four;  // floats

static float weights[N_WEIGHTS], features[C], image[SIDE * SIDE], noise[SIDE * SIDE * 8];
static float padded[(SIDE + 2) * (SIDE + 2) * 2 * C];
static float embedding[EMBEDDING], normed_embedding[EMBEDDING], shift[EMBEDDING];
static const float *next;

__attribute__((export_name("weights"))) float *get_weights(void) { return weights; }
__attribute__((export_name("n_weights"))) int get_n_weights(void) { return N_WEIGHTS; }
__attribute__((export_name("features"))) float *get_features(void) { return features; }
__attribute__((export_name("image"))) float *get_image(void) { return image; }

// The next n weights.
static const float *take(int n) {
  const float *these = next;
  next += n;
  return these;
}

// exp(x) = 2^k exp(r) with |r| <= log(2) / 2 and the Taylor series of exp(r), to a rounding or two.
static Four exponential(Four x) {
  x = wasm_f32x4_max(wasm_f32x4_splat(-87.0f), wasm_f32x4_min(wasm_f32x4_splat(88.0f), x));
  const Four k = wasm_f32x4_nearest(wasm_f32x4_mul(x, wasm_f32x4_splat(1.44269504f)));
  Four r = wasm_f32x4_sub(x, wasm_f32x4_mul(k, wasm_f32x4_splat(0.693359375f)));  // log(2) in two parts
  r = wasm_f32x4_add(r, wasm_f32x4_mul(k, wasm_f32x4_splat(2.12194440e-4f)));
  static const float inverse_factorials[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  Four sum = wasm_f32x4_splat(1.0f / 5040);
  for (int i = 0; i < 7; i++)
    sum = wasm_f32x4_add(wasm_f32x4_mul(sum, r), wasm_f32x4_splat(inverse_factorials[i]));
  const Four power = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(k), wasm_i32x4_splat(127)), 23);
  return wasm_f32x4_mul(sum, power);
}

static float total(Four x) {
  return wasm_f32x4_extract_lane(x, 0) + wasm_f32x4_extract_lane(x, 1) + wasm_f32x4_extract_lane(x, 2) +
         wasm_f32x4_extract_lane(x, 3);
}

// y = silu(x) = x / (1 + exp(-x)); y may be x.
static void silu(float *y, const float *x, int n) {
  const Four one = wasm_f32x4_splat(1.0f);
  for (int i = 0; i < n; i += 4) {
    const Four v = wasm_v128_load(x + i);
    wasm_v128_store(y + i, wasm_f32x4_div(v, wasm_f32x4_add(one, exponential(wasm_f32x4_neg(v)))));
  }
}

// x += y
static void add(float *x, const float *y, int n) {
  for (int i = 0; i < n; i += 4) wasm_v128_store(x + i, wasm_f32x4_add(wasm_v128_load(x + i), wasm_v128_load(y + i)));
}

// Some rows of a product of matrices: rows of x are `step` floats apart, in `taps` runs of `run` floats of which the
// i-th is at offsets[i]; `columns` are eight columns of weights.
static inline __attribute__((always_inline)) void rows_times_columns(
    const int n_rows, float *y, int y_step, const float *x, int step, const int *offsets, int taps, int run,
    const float *columns, const float *bias) {
  Four low[4], high[4];
  for (int i = 0; i < n_rows; i++) {
    low[i] = bias ? wasm_v128_load(bias) : wasm_f32x4_splat(0.0f);
    high[i] = bias ? wasm_v128_load(bias + 4) : wasm_f32x4_splat(0.0f);
  }
  for (int tap = 0; tap < taps; tap++) {
    const float *from = x + offsets[tap], *w = columns + tap * run * 8;
    for (int c = 0; c < run; c++, w += 8) {
      const Four w_low = wasm_v128_load(w), w_high = wasm_v128_load(w + 4);
      for (int i = 0; i < n_rows; i++) {
        const Four value = wasm_v128_load32_splat(from + i * step + c);
        low[i] = wasm_f32x4_add(low[i], wasm_f32x4_mul(value, w_low));
        high[i] = wasm_f32x4_add(high[i], wasm_f32x4_mul(value, w_high));
      }
    }
  }
  for (int i = 0; i < n_rows; i++) {
    wasm_v128_store(y + i * y_step, low[i]);
    wasm_v128_store(y + i * y_step + 4, high[i]);
  }
}

static void product(float *y, int y_step, const float *x, int step, int n_rows, const int *offsets, int taps, int run,
                    int n_columns, const float *w, const float *bias) {
  for (int j = 0; j < n_columns; j += 8, w += taps * run * 8) {
    const float *b = bias ? bias + j : 0;
    int i = 0;
    for (; i + 4 <= n_rows; i += 4)
      rows_times_columns(4, y + i * y_step + j, y_step, x + i * step, step, offsets, taps, run, w, b);
    for (; i < n_rows; i++)
      rows_times_columns(1, y + i * y_step + j, y_step, x + i * step, step, offsets, taps, run, w, b);
  }
}

// y (n, n_out) = x (n, n_in) W + b: nn.Linear, and nn.Conv2d of 1 x 1.
static void linear(float *y, const float *x, int n, int n_in, int n_out) {
  static const int here[] = {0};
  const float *w = take(n_in * n_out), *b = take(n_out);
  product(y, n_out, x, n_in, n, here, 1, n_in, n_out, w, b);
}

// Put an image into `padded`, with a border of zeros, and with zeros between its pixels if spacing is 2.
static void pad(const float *x, int side, int channels, int spacing) {
  const int width = side * spacing + 2;
  __builtin_memset(padded, 0, sizeof(float) * width * width * channels);
  for (int i = 0; i < side * side; i++) {
    const int row = i / side * spacing + 1, column = i % side * spacing + 1;
    __builtin_memcpy(padded + (row * width + column) * channels, x + i * channels, sizeof(float) * channels);
  }
}

// nn.Conv2d of 3 x 3 of what is in `padded`, to an image of side x side; nn.ConvTranspose2d if `padded` has zeros between
// the pixels.
static void convolve(float *y, int side, int channels, int n_out, int stride) {
  const int width = side * stride + 2, n_channels = (n_out + 7) / 8 * 8;
  const float *w = take(9 * channels * n_channels), *b = take(n_channels);
  int offsets[9];
  for (int i = 0; i < 9; i++) offsets[i] = (i / 3 * width + i % 3) * channels;
  for (int j = 0; j < n_channels; j += 8)
    for (int row = 0; row < side; row++)
      product(y + row * side * n_channels + j, n_channels, padded + row * stride * width * channels, stride * channels,
              side, offsets, 9, channels, 8, w + 9 * channels * j, b + j);
}

// nn.GroupNorm: each group of channels gets mean 0 and variance 1 over its pixels, then a scale and a shift by channel.
static void normalise(float *y, const float *x, int n_pixels, int channels) {
  const float *scale = take(channels), *bias = take(channels);
  const int in_group = channels / GROUPS;
  static float mean[8 * C], square[8 * C];
  for (int pass = 0; pass < 2; pass++) {  // the mean, then the variance about it, which does not cancel
    float *sum = pass ? square : mean;
    for (int c = 0; c < channels; c += 4) {
      Four all = wasm_f32x4_splat(0.0f);
      const Four centre = pass ? wasm_v128_load(mean + c) : all;
      for (int i = 0; i < n_pixels; i++) {
        const Four v = wasm_f32x4_sub(wasm_v128_load(x + i * channels + c), centre);
        all = wasm_f32x4_add(all, pass ? wasm_f32x4_mul(v, v) : v);
      }
      wasm_v128_store(sum + c, all);
    }
    for (int c = 0; c < channels; c += in_group) {
      float group = 0.0f;
      for (int i = 0; i < in_group; i++) group += sum[c + i];
      for (int i = 0; i < in_group; i++) sum[c + i] = group / (in_group * n_pixels);
    }
  }
  for (int c = 0; c < channels; c++) {
    square[c] = scale[c] / __builtin_sqrtf(square[c] + 1e-5f);
    mean[c] = bias[c] - mean[c] * square[c];
  }
  for (int i = 0; i < n_pixels; i++)
    for (int c = 0; c < channels; c += 4) {
      const Four v = wasm_f32x4_mul(wasm_v128_load(x + i * channels + c), wasm_v128_load(square + c));
      wasm_v128_store(y + i * channels + c, wasm_f32x4_add(v, wasm_v128_load(mean + c)));
    }
}

// Two normalised convolutions with the time between them, and a skip from the normalised input.
static void residual(float *y, const float *x, int side, int n_in, int n_out) {
  static float normed[LARGEST], inner[LARGEST];
  const int n_pixels = side * side;
  normalise(normed, x, n_pixels, n_in);
  silu(inner, normed, n_pixels * n_in);
  pad(inner, side, n_in, 1);
  convolve(inner, side, n_in, n_out, 1);
  normalise(normed_embedding, embedding, 1, EMBEDDING);
  linear(shift, normed_embedding, 1, EMBEDDING, n_out);
  for (int i = 0; i < n_pixels; i++) add(inner + i * n_out, shift, n_out);
  normalise(inner, inner, n_pixels, n_out);
  silu(inner, inner, n_pixels * n_out);
  pad(inner, side, n_out, 1);
  convolve(inner, side, n_out, n_out, 1);
  linear(y, normed, n_pixels, n_in, n_out);
  add(y, inner, n_pixels * n_out);
}

// A matrix whose entry (i, j) is x[i * row + j * column], with its columns packed as `product` wants them.
static void pack(float *w, const float *x, int n_rows, int n_columns, int row, int column) {
  for (int j = 0; j < n_columns; j++)
    for (int i = 0; i < n_rows; i++) w[(j / 8 * n_rows + i) * 8 + j % 8] = x[i * row + j * column];
}

// Self-attention over the pixels of the normalised input, added to that input; x is replaced.
static void attention(float *x, int n, int channels) {
  static float qkv[MOST_PIXELS * 6 * C], packed[MOST_PIXELS * 4 * C], scores[MOST_PIXELS * MOST_PIXELS], inner[LARGEST];
  static const int here[] = {0};
  normalise(x, x, n, channels);
  linear(qkv, x, n, channels, 3 * channels);
  pack(packed, qkv + channels, channels, n, 1, 3 * channels);  // the keys as columns
  product(scores, n, qkv, 3 * channels, n, here, 1, channels, n, packed, 0);
  const float scale = 1.0f / __builtin_sqrtf(channels);
  for (float *row = scores; row < scores + n * n; row += n) {
    float most = row[0];
    for (int j = 1; j < n; j++) most = row[j] > most ? row[j] : most;
    Four sum = wasm_f32x4_splat(0.0f);
    for (int j = 0; j < n; j += 4) {
      const Four v = wasm_f32x4_sub(wasm_v128_load(row + j), wasm_f32x4_splat(most));
      const Four e = exponential(wasm_f32x4_mul(v, wasm_f32x4_splat(scale)));
      wasm_v128_store(row + j, e);
      sum = wasm_f32x4_add(sum, e);
    }
    const Four share = wasm_f32x4_splat(1.0f / total(sum));
    for (int j = 0; j < n; j += 4) wasm_v128_store(row + j, wasm_f32x4_mul(wasm_v128_load(row + j), share));
  }
  pack(packed, qkv + 2 * channels, n, channels, 3 * channels, 1);  // the values
  product(inner, channels, scores, n, n, here, 1, n, channels, packed, 0);
  linear(qkv, inner, n, channels, channels);
  add(x, qkv, n * channels);
}

// torch.cat([x, y], dim=1)
static void concatenate(float *both, const float *x, int n_x, const float *y, int n_y, int n_pixels) {
  for (int i = 0; i < n_pixels; i++) {
    __builtin_memcpy(both + i * (n_x + n_y), x + i * n_x, sizeof(float) * n_x);
    __builtin_memcpy(both + i * (n_x + n_y) + n_x, y + i * n_y, sizeof(float) * n_y);
  }
}

// A residual block of x and of the output of its mirror image on the way down, which has as many channels.
static void joined(float *y, const float *x, const float *down, int side, int channels, int n_out) {
  static float both[LARGEST];
  concatenate(both, x, channels, down, channels, side * side);
  residual(y, both, side, 2 * channels, n_out);
}

// UNet.forward: from `image` and `features`, the sines and cosines of the time, to the noise.
__attribute__((export_name("evaluate"))) float *evaluate(void) {
  static float h_in[LARGEST], h1[LARGEST], h2[LARGEST], h3[LARGEST], h4[LARGEST], h5[LARGEST], h6[LARGEST];
  static float h[LARGEST], g[LARGEST];
  const int half = SIDE / 2, quarter = SIDE / 4;
  next = weights;
  linear(shift, features, 1, C, EMBEDDING);
  silu(shift, shift, EMBEDDING);
  linear(embedding, shift, 1, EMBEDDING, EMBEDDING);

  pad(image, SIDE, 1, 1);
  convolve(h_in, SIDE, 1, C, 1);
  residual(h1, h_in, SIDE, C, C);
  residual(h2, h1, SIDE, C, C);
  pad(h2, SIDE, C, 1);
  convolve(h, half, C, 2 * C, 2);
  residual(h3, h, half, 2 * C, 2 * C);
  __builtin_memcpy(h, h3, sizeof(float) * half * half * 2 * C);
  attention(h, half * half, 2 * C);
  residual(h4, h, half, 2 * C, 2 * C);
  __builtin_memcpy(h, h4, sizeof(float) * half * half * 2 * C);
  attention(h, half * half, 2 * C);
  pad(h, half, 2 * C, 1);
  convolve(h, quarter, 2 * C, 4 * C, 2);
  residual(h5, h, quarter, 4 * C, 4 * C);
  residual(h6, h5, quarter, 4 * C, 4 * C);

  residual(h, h6, quarter, 4 * C, 4 * C);
  attention(h, quarter * quarter, 4 * C);
  residual(g, h, quarter, 4 * C, 4 * C);
  attention(g, quarter * quarter, 4 * C);

  joined(h, g, h6, quarter, 4 * C, 4 * C);
  joined(g, h, h5, quarter, 4 * C, 4 * C);
  pad(g, quarter, 4 * C, 2);
  convolve(h, half, 4 * C, 2 * C, 1);
  joined(g, h, h4, half, 2 * C, 2 * C);
  attention(g, half * half, 2 * C);
  joined(h, g, h3, half, 2 * C, 2 * C);
  attention(h, half * half, 2 * C);
  pad(h, half, 2 * C, 2);
  convolve(g, SIDE, 2 * C, C, 1);
  joined(h, g, h2, SIDE, C, C);
  joined(g, h, h1, SIDE, C, C);
  concatenate(h, g, C, h_in, C, SIDE * SIDE);
  normalise(h, h, SIDE * SIDE, 2 * C);
  silu(h, h, SIDE * SIDE * 2 * C);
  pad(h, SIDE, 2 * C, 1);
  convolve(noise, SIDE, 2 * C, 1, 1);
  for (int i = 0; i < SIDE * SIDE; i++) noise[i] = noise[8 * i];  // of the eight channels only the first has weights
  return noise;
}
