// A chart of spectra: Plotly draws axes, means, bands and error bars; a canvas below it draws any number of lines.
// Plotly alone takes 180 ms for 1341 spectra, the canvas 30.

const MARGIN = { l: 54, r: 10, t: 8, b: 42 };
const X_SPAN = [0.428, 0.932];
const NEAR = 16; // pixels within which the pointer finds a line

class SpectraChart {
  /** `onPick(i)` is called with the asteroid whose line is clicked. */
  constructor(host, { onPick }) {
    this.host = host;
    this.content = { lines: [], strong: [], bands: [], raw: [], span: FIXED_SPAN };
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.marks = make("canvas", { "aria-hidden": "true" });
    this.plot = make("div", { class: "plot" });
    this.tip = make("div", { class: "tip", hidden: true });
    host.append(this.canvas, this.plot, this.marks, this.tip);
    host.addEventListener("pointermove", (event) => this.point(event));
    host.addEventListener("pointerleave", () => this.point(null));
    host.addEventListener(
      "pointerdown",
      (down) => {
        const pick = (up) => {
          if (Math.hypot(up.clientX - down.clientX, up.clientY - down.clientY) > 4) return;
          const near = this.nearest(up);
          if (near) onPick(near.i);
        };
        window.addEventListener("pointerup", pick, { once: true, capture: true });
      },
      { capture: true },
    );
    new ResizeObserver(() => {
      if (this.drawn && host.clientWidth && host.clientWidth !== this.width) this.draw(this.content);
    }).observe(host);
  }

  /**
   * lines: {i, colour, width}; strong: lines on top of these; bands: families with a dash, and a fill where it is not
   * the colour; raw: {i, colour}; span: range of reflectance, or null for that of what is drawn.
   */
  draw(content) {
    this.content = { strong: [], raw: [], ...content };
    if (!this.host.clientWidth) return;
    const style = inks();
    const title = this.host.clientHeight < 260 ? "reflectance" : "reflectance, 1 at 0.55 µm";
    const layout = {
      ...frameLayout(style, this.host),
      dragmode: COARSE ? false : "zoom",
      xaxis: axis(style, "wavelength (µm)", X_SPAN),
      yaxis: axis(style, title, this.content.span ?? this.free()),
    };
    this.width = this.host.clientWidth;
    Plotly.react(this.plot, [...this.bandTraces(style), ...this.rawTraces()], layout, { displayModeBar: false });
    if (!this.drawn) {
      this.drawn = true;
      this.plot.on("plotly_relayout", () => this.paint());
    }
    this.paint();
  }

  free() {
    const { lines, strong, bands, raw } = this.content;
    const drawn = [...lines, ...strong].map(({ i }) => i);
    if (!drawn.length && !bands.length) return FIXED_SPAN;
    let [low, high] = drawn.length ? span(drawn) : [Infinity, -Infinity];
    for (const { mean, sigma } of bands) {
      for (let c = 0; c < CHANNELS; c++) {
        low = Math.min(low, mean[c] - 1.1 * sigma[c] - 0.01);
        high = Math.max(high, mean[c] + 1.1 * sigma[c] + 0.01);
      }
    }
    for (const { i } of raw) {
      const spectrum = rawSpectrum(i);
      low = Math.min(low, ...spectrum.reflectance) - 0.005;
      high = Math.max(high, ...spectrum.reflectance) + 0.005;
    }
    return [low, high];
  }

  bandTraces(style) {
    return this.content.bands.flatMap(({ mean, sigma, colour, fill, title, dash }) => {
      const edge = (sign) => Array.from(mean, (value, c) => value + sign * sigma[c]);
      const line = { x: WAVELENGTH, type: "scatter", mode: "lines", hoverinfo: "skip" };
      const rim = { color: ink(colour), width: fill ? 1 : 0, dash: "dot" }; // seen even among hundreds of lines
      const shade = withAlpha(ink(fill ?? colour), 0.22);
      return [
        { ...line, y: edge(-1), line: rim },
        { ...line, y: edge(1), line: rim, fill: "tonexty", fillcolor: shade },
        { ...line, y: Array.from(mean), name: title, line: { color: ink(colour), width: 2.4, dash } },
      ];
    });
  }

  rawTraces() {
    return this.content.raw.map(({ i, colour }) => {
      const { wavelength, reflectance: y, uncertainty } = rawSpectrum(i);
      return {
        x: Array.from(wavelength),
        y: Array.from(y),
        type: "scatter",
        mode: "markers",
        name: escaped(called(i)),
        marker: { color: ink(colour), size: 3.5 },
        error_y: {
          type: "data",
          array: Array.from(uncertainty),
          color: withAlpha(ink(colour), 0.5),
          thickness: 1,
          width: 0,
        },
        hovertemplate: "%{x:.4f} µm: %{y:.4f}<extra>%{fullData.name}</extra>",
      };
    });
  }

  paint() {
    const frame = frameOf(this.plot, this.host);
    const context = prepared(this.canvas, frame);
    const { lines, strong, raw } = this.content;
    const faint = raw.length ? 0.45 : Math.max(0.16, Math.min(0.95, 4.5 / Math.sqrt(lines.length)));
    for (const { i, colour, width } of lines) trace(context, frame, i, ink(colour), width ?? 1, faint);
    for (const { i, colour, width } of strong) trace(context, frame, i, ink(colour), width ?? 2.5, 1);
    prepared(this.marks, frame);
  }

  nearest(event) {
    if (!this.drawn) return null;
    const box = this.host.getBoundingClientRect();
    const frame = frameOf(this.plot, this.host);
    const [px, py] = [event.clientX - box.left - MARGIN.l, event.clientY - box.top - MARGIN.t];
    if (px < 0 || py < 0 || px > frame.width || py > frame.height) return null;
    let channel = 0;
    for (let c = 1; c < CHANNELS; c++) {
      if (Math.abs(frame.x(WAVELENGTH[c]) - px) < Math.abs(frame.x(WAVELENGTH[channel]) - px)) channel = c;
    }
    let best = null;
    for (const { i, colour } of [...this.content.lines, ...this.content.strong]) {
      const distance = Math.abs(frame.y(smoothed[i * CHANNELS + channel]) - py);
      if (distance < NEAR && (!best || distance < best.distance)) best = { i, colour, distance, px, py };
    }
    return best;
  }

  point(event) {
    const near = event && event.buttons === 0 ? this.nearest(event) : null;
    this.tip.hidden = !near;
    if (!this.drawn || near?.i === this.pointed) {
      if (near) this.place(near);
      return;
    }
    this.pointed = near?.i;
    const frame = frameOf(this.plot, this.host);
    const context = prepared(this.marks, frame);
    if (!near) return;
    trace(context, frame, near.i, inks().ink, 3.5, 1);
    trace(context, frame, near.i, ink(near.colour), 1.8, 1);
    this.tip.textContent = `${called(near.i)} · ${facts(near.i)}`;
    this.place(near);
  }

  place({ px, py }) {
    const left = Math.min(px + MARGIN.l + 14, this.host.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(2, py - 30)}px)`;
  }
}

/** What all charts have in common: their size, their margins and their ink. */
function frameLayout(style, host) {
  return {
    margin: MARGIN,
    width: host.clientWidth,
    height: host.clientHeight,
    showlegend: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: style.font, size: 12, color: style.soft },
  };
}

/** The frame that Plotly shows now: its size, and the pixels of values on its axes. */
function frameOf(plot, host) {
  const width = host.clientWidth - MARGIN.l - MARGIN.r;
  const height = host.clientHeight - MARGIN.t - MARGIN.b;
  const [x0, x1] = plot.layout.xaxis.range;
  const [y0, y1] = plot.layout.yaxis.range;
  return {
    width,
    height,
    x: (value) => ((value - x0) / (x1 - x0)) * width,
    y: (value) => ((y1 - value) / (y1 - y0)) * height,
  };
}

function axis(style, title, range) {
  return {
    title: { text: title, standoff: 8 },
    range: [...range],
    gridcolor: style.grid,
    zeroline: false,
    linecolor: style.line,
    tickcolor: style.line,
    ticks: "outside",
    ticklen: 4,
    showline: true,
    automargin: false,
  };
}

function prepared(canvas, { width, height }) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  Object.assign(canvas.style, {
    left: `${MARGIN.l}px`,
    top: `${MARGIN.t}px`,
    width: `${width}px`,
    height: `${height}px`,
  });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function trace(context, frame, i, colour, width, alpha) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.globalAlpha = alpha;
  context.lineJoin = "round";
  context.beginPath();
  for (let c = 0; c < CHANNELS; c++) context.lineTo(frame.x(WAVELENGTH[c]), frame.y(smoothed[i * CHANNELS + c]));
  context.stroke();
}
