// Spectra by class: every one drawn, with their mean and 1-sigma band.

const spectraView = {
  id: "spectra",
  title: "Spectra",
  missing: null,

  build(host) {
    let shown = family("all", "all");
    let fixed = true;
    const chooser = familyChooser(
      "Class or main group",
      [
        [{ ...shown, short: "All" }],
        ...data.groups.map((group) => [
          { ...family("main_group", group.name), short: group.name === "Other" ? "Other" : `All ${group.name}` },
          ...group.classes.map((name) => ({ ...family("bus_class", name), short: name })),
        ]),
      ],
      (each) => show(each),
    );
    const heading = make("h2", { "aria-live": "polite" });
    const members = memberList("Asteroids of the class");
    const chartHost = make("div", { class: "chart tall" });
    host.append(
      chooser.host,
      make("div", { class: "bar" }, [
        heading,
        choice(
          "axis",
          [
            ["fixed", "fixed"],
            ["free", "free"],
          ],
          "fixed",
          (value) => {
            fixed = value === "fixed";
            draw();
          },
        ),
      ]),
      chartHost,
      make("p", { class: "legend" }, [
        make("span", {}, [make("i", { class: "key band dashed" }), "mean and 1σ"]),
        make("span", {}, [
          COARSE ? "Tap a line to choose it." : "Click a line to choose it. Drag to zoom, double-click to go back.",
        ]),
      ]),
      members.host,
    );
    const chart = new SpectraChart(chartHost, { onPick: (i) => selection.toggle(i) });

    function show(each) {
      shown = each;
      heading.textContent = `${shown.title}: ${asteroids(shown.members.length)}`;
      members.fill(shown.members, (i) => data.bus_class[i]);
      draw();
    }
    const draw = soon(() => {
      const held = new Set(shown.members);
      const few = selection.chosen.length <= MOST_COLOURED;
      chart.draw({
        lines: shown.members.map((i) => ({
          i,
          colour: shown.level === "all" ? groupOf[data.bus_class[i]].colour : shown.colour,
        })),
        strong: few ? selection.chosen.filter((i) => held.has(i)).map((i) => ({ i, colour: selection.colour(i) })) : [],
        bands: [{ ...shown, colour: "#000000", fill: shown.colour, dash: "8px,3px" }],
        span: fixed ? FIXED_SPAN : null,
      });
      members.mark();
    });
    chooser.show(shown);
    show(shown);
    return {
      draw,
      chosen: draw,
      reveal(i) {
        const own = family("bus_class", data.bus_class[i]);
        if (shown.members.includes(i) && shown.level !== "all") return;
        chooser.show(own);
        show(own);
      },
    };
  },
};
