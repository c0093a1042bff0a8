// The latent space: each asteroid a point; those taken with the lasso are drawn beside it.

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
    const canvas = make("canvas", { "aria-hidden": "true" });
    const chartHost = make("div", { class: "chart tall latent" }, [canvas, plot]);
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
          colour();
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

    /** Axes and what the pointer finds are Plotly's, whose points are unseen: it would take 100 ms to colour them. */
    function draw() {
      const style = inks();
      const marker = { size: 7, opacity: 0 };
      const points = {
        type: "scatter",
        mode: "markers",
        x: placed.map((i) => x[i]),
        y: placed.map((i) => y[i]),
        text: words,
        hovertemplate: "%{text}<extra></extra>",
        marker,
        selected: { marker },
        unselected: { marker },
      };
      const layout = {
        ...frameLayout(style, chartHost),
        dragmode: COARSE ? false : tool,
        hoverlabel: { bgcolor: style.card, bordercolor: style.line, font: { color: style.ink, family: style.font } },
        xaxis: axis(style, "latent 1", ranges[0]),
        yaxis: axis(style, "latent 2", ranges[1]),
        uirevision: "latent",
        selectionrevision: (revision += 1),
      };
      Plotly.react(plot, [points], layout, { displayModeBar: false });
      listen();
      colour();
    }

    function colour() {
      paint();
      legend.replaceChildren(
        ...families().map((each, n) =>
          make(
            "button",
            {
              type: "button",
              "data-label": each.label,
              "aria-label": `${each.label} ${each.members.length}: choose ${each.title}`,
              onclick: () => choose(each.members),
            },
            [
              symbolPicture(symbol(each, n), ink(each.colour)),
              make("b", {}, [String(each.label)]),
              " ",
              make("small", {}, [String(each.members.length)]),
            ],
          ),
        ),
      );
    }

    /** The points, rings round the chosen, and names of classes and clusters. */
    function paint() {
      if (!plot.layout || !chartHost.clientWidth) return;
      const style = inks();
      const frame = frameOf(plot, chartHost);
      const context = prepared(canvas, frame);
      const shown = families();
      const at = (i) => [frame.x(x[i]), frame.y(y[i])];
      const held = shown.map(({ members }) => members.filter((i) => x[i] !== null));
      context.globalAlpha = 0.78;
      shown.forEach((each, n) => {
        Object.assign(context, { fillStyle: ink(each.colour), strokeStyle: style.card, lineWidth: 0.4 });
        for (const i of held[n]) {
          const point = symbolPath(symbol(each, n), ...at(i), 3.5);
          context.fill(point);
          context.stroke(point);
        }
      });
      context.globalAlpha = 1;
      Object.assign(context, { strokeStyle: style.ink, lineWidth: selection.chosen.length > 40 ? 0.8 : 1.8 });
      for (const i of selection.chosen) {
        if (x[i] === null) continue;
        context.beginPath();
        context.arc(...at(i), 6, 0, 2 * Math.PI);
        context.stroke();
      }
      if (level === "main_group") return;
      Object.assign(context, { font: `600 12px ${style.font}`, textAlign: "center", textBaseline: "middle" });
      Object.assign(context, { lineWidth: 4, lineJoin: "round", strokeStyle: style.card, fillStyle: style.ink });
      shown.forEach(({ label }, n) => {
        const middle = [frame.x(median(held[n].map((i) => x[i]))), frame.y(median(held[n].map((i) => y[i])))];
        context.strokeText(label, ...middle);
        context.fillText(label, ...middle);
      });
    }

    function listen() {
      if (plot.listening) return;
      plot.listening = true;
      const picked = (points) => points.map(({ pointNumber }) => placed[pointNumber]);
      plot.on("plotly_click", ({ points }) => selection.toggle(picked(points)[0]));
      plot.on("plotly_selected", (event) => {
        if (!event?.points?.length) return;
        choose(picked(event.points));
        Plotly.relayout(plot, { selections: [] }); // the rings say what was chosen
      });
      plot.on("plotly_relayout", paint);
    }
    new ResizeObserver(() => {
      if (chartHost.clientWidth && chartHost.clientWidth !== plot.layout?.width) draw();
    }).observe(chartHost);
    draw();
    return { draw, chosen: paint, reveal() {} };
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
