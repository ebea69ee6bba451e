// Sizes of a convolution, and the steps of its lowerings: arithmetic alone, no page.
// tests/test_explorer.py compares all of it with pymec, number by number.
"use strict";

const explorerModel = (() => {
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const gcd = (a, b) => (b ? gcd(b, a % b) : a);

  // The largest sizes that a reader may type.  They are such that JavaScript holds every number exactly.
  const FIELDS = {
    input: { i_n: 128, i_h: 1024, i_w: 1024, i_c: 2048 },
    kernel: { k_h: 31, k_w: 31, k_c: 2048 },
    stride: { s_h: 16, s_w: 16 },
    padding: { p_h: 31, p_w: 31 },
    dilation: { d_h: 8, d_w: 8 },
    band: { b: 1024 },
  };

  // Sizes ----------------------------------------------------------------------------------------------

  // The convolution of the transposes: what holds for rows then holds for columns.
  function transposed(s) {
    return {
      ...s,
      i_h: s.i_w, i_w: s.i_h, k_h: s.k_w, k_w: s.k_h, s_h: s.s_w, s_w: s.s_h, d_h: s.d_w, d_w: s.d_h,
      p_t: s.p_l, p_l: s.p_t, p_b: s.p_r, p_r: s.p_b, e_h: s.e_w, e_w: s.e_h, o_h: s.o_w, o_w: s.o_h,
    };
  }

  // The image rows that n output rows from y0 on read, in the order in which a strip of L keeps them.  With
  // dilation that is by residue: the rows under one output row are then adjacent, and one product does.
  function rowsRead(s, y0 = 0, n = s.o_h - y0) {
    const rows = new Set();
    const classes = s.d_h / gcd(s.s_h, s.d_h);
    for (let j = 0; j < Math.min(classes, n); j++) {
      for (let y = j; y < n; y += classes) {
        for (const h of rowsUnder(s, y0 + y)) rows.add(h);
      }
    }
    return [...rows];
  }

  // The image rows under the kernel's rows, without those of the padding.
  function rowsUnder(s, y) {
    return range(s.k_h).map((a) => y * s.s_h - s.p_t + a * s.d_h).filter((h) => h >= 0 && h < s.i_h);
  }

  // r_b, the most image rows that a band of b output rows reads: ConvShape.band_rows_kept, with its upper bound
  // where more than 16 bands touch the image and none lies inside it.
  function bandRowsKept(s, b) {
    const kept = (y0) => rowsRead(s, y0, Math.min(b, s.o_h - y0)).length;
    const inside = Math.ceil(s.p_t / (s.s_h * b)) * b;
    if ((inside + b - 1) * s.s_h + s.e_h - s.p_t <= s.i_h) return kept(inside);
    const first = Math.floor(Math.max(0, Math.floor((s.p_t - s.e_h) / s.s_h)) / b) * b;
    const end = Math.min(s.o_h, Math.floor((s.p_t + s.i_h) / s.s_h) + 1);
    const bands = range(Math.max(0, Math.ceil((end - first) / b))).map((i) => first + i * b);
    if (bands.length <= 16) return Math.max(0, ...bands.map(kept));
    const withoutPadding = { ...s, i_h: (b - 1) * s.s_h + s.e_h, o_h: b, p_t: 0, p_b: 0 };
    const residues = Math.min(b, s.d_h / gcd(s.s_h, s.d_h));
    return Math.min(s.i_h, rowsRead(withoutPadding).length, residues * Math.ceil(s.i_h / s.d_h));
  }

  // The next length with no prime factor above 5: Fourier transforms of such lengths are fast.
  function fastLength(n) {
    for (let rest = n; ; rest = ++n) {
      for (const prime of [2, 3, 5]) while (rest % prime === 0) rest /= prime;
      if (rest === 1) return n;
    }
  }

  const spectrumSize = (F_h, F_w) => 2 * F_h * (Math.floor(F_w / 2) + 1);
  const tileLength = (e, image) => fastLength(Math.min(Math.max(3 * e - 1, 16), image + e - 1));

  // All that the formulas of the registry name, for one group, one thread and float32.
  function sizes(given) {
    const s = { ...given, G: 1, slices: 1, itemsize: 4 };
    const H = s.i_h + s.p_t + s.p_b, W = s.i_w + s.p_l + s.p_r;
    s.e_h = s.d_h * (s.k_h - 1) + 1;
    s.e_w = s.d_w * (s.k_w - 1) + 1;
    s.o_h = Math.floor((H - s.e_h) / s.s_h) + 1;
    s.o_w = Math.floor((W - s.e_w) / s.s_w) + 1;
    if (s.o_h < 1 || s.o_w < 1) return s; // the kernel is larger than the image
    s.r_h = rowsRead(s).length;
    s.r_w = rowsRead(transposed(s)).length;
    s.F_h = fastLength(H);
    s.F_w = fastLength(W);
    s.S = spectrumSize(s.F_h, s.F_w);
    s.S_tile = spectrumSize(tileLength(s.e_h, H), tileLength(s.e_w, W));
    const padded = s.p_t + s.p_b + s.p_l + s.p_r > 0;
    s.is_pointwise = s.k_h === 1 && s.k_w === 1 && s.s_h === 1 && s.s_w === 1 && !padded;
    s.is_row_of_taps = s.k_h === 1 && s.s_h === 1 && s.d_w === 1 && !s.p_t && !s.p_b && s.r_w === s.i_w;
    return s;
  }

  // Elements of the strips of one band.
  const bandSize = (s, b) => s.o_w * bandRowsKept(s, b) * s.k_w * s.i_c;

  // Steps ----------------------------------------------------------------------------------------------

  // An algorithm is { rows, columns, steps } of its L, for one image of one channel.  A step is either
  // { row, cells }, a row of L that is written (cells are numbers of pixels, -1 is a zero of the padding), or
  // { first, count, makes }, the columns of L that are multiplied with K and the outputs that this makes.

  const pixel = (s, h, w) => (h >= 0 && h < s.i_h && w >= 0 && w < s.i_w ? h * s.i_w + w : -1);

  function im2col(s) {
    const steps = [];
    for (let y = 0; y < s.o_h; y++) {
      for (let x = 0; x < s.o_w; x++) {
        const cells = range(s.k_h).flatMap((a) => range(s.k_w).map((b) =>
          pixel(s, y * s.s_h - s.p_t + a * s.d_h, x * s.s_w - s.p_l + b * s.d_w)));
        steps.push({ row: y * s.o_w + x, cells, y, x });
      }
    }
    const outputs = s.o_h * s.o_w, columns = s.k_h * s.k_w;
    steps.push({ first: 0, count: columns, makes: range(outputs), y: 0 });
    return { rows: outputs, columns, steps };
  }

  // MEC in bands of b output rows; all of it at once is the band of o_h rows.
  function mec(s, b = s.o_h) {
    const steps = [];
    for (let y0 = 0; y0 < s.o_h; y0 += b) {
      const rows = rowsRead(s, y0, Math.min(b, s.o_h - y0));
      for (let x = 0; x < s.o_w; x++) {
        const cells = rows.flatMap((h) => range(s.k_w).map((tap) =>
          pixel(s, h, x * s.s_w - s.p_l + tap * s.d_w)));
        steps.push({ row: x, cells, y: y0, x, band: y0 / b });
      }
      for (let y = y0; y < Math.min(y0 + b, s.o_h); y++) {
        const under = rowsUnder(s, y);
        const first = under.length ? rows.indexOf(under[0]) * s.k_w : 0;
        const makes = range(s.o_w).map((x) => y * s.o_w + x);
        steps.push({ first, count: under.length * s.k_w, makes, y, band: y0 / b });
      }
    }
    return { rows: s.o_w, columns: bandRowsKept(s, b) * s.k_w, steps };
  }

  // MEC of the transposes, with pixels and outputs by their own numbers again.
  function mecW(s) {
    const t = transposed(s);
    const lowered = mec(t);
    const turned = (number, width, height) =>
      (number < 0 ? -1 : (number % width) * height + Math.floor(number / width));
    for (const step of lowered.steps) {
      if (step.cells) step.cells = step.cells.map((cell) => turned(cell, t.i_w, t.i_h));
      else step.makes = step.makes.map((output) => turned(output, t.o_w, t.o_h));
    }
    return lowered;
  }

  // What is drawn --------------------------------------------------------------------------------------

  const MOST_PIXELS = 12, MOST_ROWS = 24, MOST_COLUMNS = 300;

  // One axis of the image: as it is if that is small; otherwise as many outputs as 12 pixels give, from three to
  // five, or two where the stride is long.  Kernel, stride and dilation stay.
  function smallAxis(i, e, s, p) {
    if (i <= MOST_PIXELS) return [i, p];
    const padding = Math.min(p, e - 1);
    const least = 2 * s + e <= MOST_ROWS ? 3 : 2;
    const outputs = Math.min(5, Math.max(least, Math.floor((MOST_PIXELS - e) / s) + 1));
    return [Math.min(i, Math.max((outputs - 1) * s + e - 2 * padding, 3)), padding];
  }

  // One image and one channel, small enough to draw, or null where the kernel is too large for that.
  function drawn(s) {
    const [i_h, p_h] = smallAxis(s.i_h, s.e_h, s.s_h, s.p_t);
    const [i_w, p_w] = smallAxis(s.i_w, s.e_w, s.s_w, s.p_l);
    const small = sizes({ ...s, i_n: 1, i_c: 1, k_c: 1, i_h, i_w, p_t: p_h, p_b: p_h, p_l: p_w, p_r: p_w });
    const rows = Math.max(i_h, i_w, p_h, p_w, small.o_h, small.o_w);
    const columns = Math.max(small.r_h * s.k_w, small.r_w * s.k_h, s.k_h * s.k_w);
    return rows <= MOST_ROWS && columns <= MOST_COLUMNS ? small : null;
  }

  return { FIELDS, sizes, bandSize, bandRowsKept, drawn, im2col, mec, mecW };
})();
