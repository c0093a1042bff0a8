// The latent space: each asteroid a point; those taken with the lasso are drawn beside it.

const GLYPHS = {
  circle: "●",
  square: "■",
  diamond: "◆",
  "triangle-up": "▲",
  cross: "✚",
  x: "✖",
  star: "★",
  pentagon: "⬟",
  "triangle-down": "▼",
  hexagram: "✶",
};
const SYMBOLS = Object.keys(GLYPHS);

const latentView = {
  id: "latent",
  title: "Latent space",
  missing: data.latent ? null : "latent space and clusters (no finished cluster step)",

  build(host) {
    const { x, y } = data.latent;
    const placed = ALL.filter((i) => x[i] !== null && y[i] !== null);
    const words = placed.map((i) => `<b>${escaped(called(i))}</b><br>${escaped(facts(i))}`);
    const ranges = [x, y].map((values) => around(placed.map((i) => values[i])));
    let revision = 0;
    let level = "main_group";
    let tool = "lasso";
    const plot = make("div", { class: "plot" });
    const marks = make("canvas", { "aria-hidden": "true" });
    const chartHost = make("div", { class: "chart tall latent" }, [plot, marks]);
    const legend = make("div", { class: "legend keys" });
    const options = [
      ["main_group", "main group"],
      ["bus_class", "Bus class"],
    ];
    if (CLUSTERS.length) options.push(["cluster", "cluster"]);
    host.append(
      make("div", { class: "bar" }, [
        choice("colour by", options, level, (value) => {
          level = value;
          draw();
        }),
        ...(COARSE
          ? []
          : [
              choice(
                "drag to",
                [
                  ["lasso", "lasso"],
                  ["select", "box"],
                  ["zoom", "zoom"],
                ],
                tool,
                (value) => {
                  tool = value;
                  draw();
                },
              ),
            ]),
      ]),
      chartHost,
      make("p", { class: "legend" }, [
        COARSE
          ? "Tap a point, or a label below, to choose it."
          : "Click a point, draw round several, or choose a label below. Shift adds to those chosen.",
      ]),
      legend,
    );
    let adding = false;
    host.addEventListener(
      "pointerdown",
      (event) => {
        adding = event.shiftKey;
      },
      { capture: true },
    );
    const choose = (indices) => selection.set(adding ? [...selection.chosen, ...indices] : indices);

    function families() {
      const labels = {
        main_group: data.groups.map((group) => group.name),
        bus_class: data.groups.flatMap((group) => group.classes),
        cluster: CLUSTERS,
      }[level];
      return labels.map((label) => family(level, label)).filter(({ members }) => members.length);
    }

    function symbol(each, n) {
      if (each.level === "bus_class") return SYMBOLS[groupOf[each.label].classes.indexOf(each.label)];
      return SYMBOLS[(n + Math.floor(n / CLUSTER_COLOURS.length)) % SYMBOLS.length];
    }

    function draw() {
      const style = inks();
      const shown = families();
      const look = new Map(
        shown.flatMap((each, n) => each.members.map((i) => [i, [ink(each.colour), symbol(each, n)]])),
      );
      const [colours, symbols] = [0, 1].map((part) =>
        placed.map((i) => look.get(i)?.[part] ?? ["#767676", "circle"][part]),
      );
      Plotly.react(
        plot,
        [
          {
            type: "scatter",
            mode: "markers",
            x: placed.map((i) => x[i]),
            y: placed.map((i) => y[i]),
            text: words,
            hovertemplate: "%{text}<extra></extra>",
            marker: {
              color: colours,
              symbol: symbols,
              size: 6.5,
              opacity: 0.75,
              line: { width: 0.4, color: style.card },
            },
            selected: { marker: { opacity: 0.75 } },
            unselected: { marker: { opacity: 0.75 } },
          },
        ],
        {
          margin: MARGIN,
          showlegend: false,
          hovermode: "closest",
          dragmode: COARSE ? false : tool,
          paper_bgcolor: "rgba(0,0,0,0)",
          plot_bgcolor: "rgba(0,0,0,0)",
          font: { family: style.font, size: 12, color: style.soft },
          hoverlabel: { bgcolor: style.card, bordercolor: style.line, font: { color: style.ink, family: style.font } },
          xaxis: axis(style, "latent 1", ranges[0]),
          yaxis: axis(style, "latent 2", ranges[1]),
          width: chartHost.clientWidth,
          height: chartHost.clientHeight,
          uirevision: "latent",
          selectionrevision: (revision += 1),
        },
        { displayModeBar: false },
      );
      listen();
      mark();
      legend.replaceChildren(
        ...shown.map((each, n) =>
          make(
            "button",
            {
              type: "button",
              "data-label": each.label,
              "aria-label": `${each.label} ${each.members.length}: choose ${each.title}`,
              onclick: () => choose(each.members),
            },
            [
              make("i", { class: "glyph", "aria-hidden": "true", style: `color:${ink(each.colour)}` }, [
                GLYPHS[symbol(each, n)],
              ]),
              make("b", {}, [String(each.label)]),
              " ",
              make("small", {}, [String(each.members.length)]),
            ],
          ),
        ),
      );
    }

    /** Rings round the chosen, and names of classes and clusters: on a canvas, as Plotly would take 50 ms for them. */
    function mark() {
      if (!plot.layout || !chartHost.clientWidth) return;
      const style = inks();
      const frame = frameOf(plot, chartHost);
      const context = prepared(marks, frame);
      context.strokeStyle = style.ink;
      context.lineWidth = selection.chosen.length > 40 ? 0.8 : 1.8;
      for (const i of selection.chosen) {
        if (x[i] === null) continue;
        context.beginPath();
        context.arc(frame.x(x[i]), frame.y(y[i]), 5.5, 0, 2 * Math.PI);
        context.stroke();
      }
      if (level === "main_group") return;
      Object.assign(context, {
        font: `600 12px ${style.font}`,
        textAlign: "center",
        textBaseline: "middle",
        lineWidth: 4,
        lineJoin: "round",
        strokeStyle: style.card,
        fillStyle: style.ink,
      });
      for (const { label, members } of families()) {
        const held = members.filter((i) => x[i] !== null);
        const at = [frame.x(median(held.map((i) => x[i]))), frame.y(median(held.map((i) => y[i])))];
        context.strokeText(label, ...at);
        context.fillText(label, ...at);
      }
    }

    function listen() {
      if (plot.listening) return;
      plot.listening = true;
      const picked = (points) => points.map(({ pointNumber }) => placed[pointNumber]);
      plot.on("plotly_click", ({ points }) => selection.toggle(picked(points)[0]));
      plot.on("plotly_selected", (event) => {
        if (event?.points?.length) choose(picked(event.points));
      });
      plot.on("plotly_relayout", mark);
    }
    new ResizeObserver(() => {
      if (chartHost.clientWidth && chartHost.clientWidth !== plot.layout?.width) draw();
    }).observe(chartHost);
    draw();
    return { draw, chosen: mark, reveal() {} };
  },
};

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function around(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.05 * (high - low);
  return [low - room, high + room];
}
