// Clusters: which classes they hold, and what their members look like.

const clustersView = {
  id: "clusters",
  title: "Clusters",
  missing: CLUSTERS.length || !data.latent ? null : "clusters (the latent space names none)",

  build(host) {
    let level = "main_group";
    let shown = family("cluster", CLUSTERS[0]);
    const tableHost = make("div", { class: "scroll" });
    const heading = make("h2", { "aria-live": "polite" });
    const members = memberList("Members of the cluster, surest first");
    const chooser = familyChooser(
      "Cluster",
      [CLUSTERS.map((number) => ({ ...family("cluster", number), short: String(number) }))],
      (each) => show(each),
    );
    const chartHost = make("div", { class: "chart" });
    host.append(
      make("div", { class: "bar" }, [
        choice(
          "classes",
          [
            ["main_group", "main group"],
            ["bus_class", "Bus class"],
          ],
          level,
          (value) => {
            level = value;
            table();
          },
        ),
      ]),
      make("div", { class: "beside" }, [
        make("div", {}, [
          tableHost,
          make("p", { class: "legend" }, ["A cell chooses its asteroids. Colour: share of the cluster."]),
        ]),
        chooser.host,
      ]),
      make("div", { class: "bar" }, [heading]),
      chartHost,
      make("p", { class: "legend" }, [
        make("span", {}, [make("i", { class: "key band dashed" }), "mean and 1σ"]),
        "Members below, surest first, with their probability of membership.",
      ]),
      members.host,
    );
    const chart = new SpectraChart(chartHost, { onPick: (i) => selection.toggle(i) });

    function table() {
      const columns =
        level === "main_group" ? data.groups.map((group) => group.name) : data.groups.flatMap((group) => group.classes);
      const labels = level === "main_group" ? mainGroup : data.bus_class;
      tableHost.replaceChildren(
        matrix({
          label: "Clusters and classes",
          rowTitle: "cluster",
          columnTitle: "class",
          rows: CLUSTERS,
          columns: columns.filter((name) => family(level, name).members.length),
          cells: cellsOf(
            (i) => data.latent.cluster[i],
            (i) => labels[i],
          ),
          onPick(cluster, name, found) {
            chooser.show(family("cluster", cluster));
            show(family("cluster", cluster));
            selection.set(found, [family("cluster", cluster), family(level, name)]);
          },
        }),
      );
    }
    function show(each) {
      shown = each;
      const sure = data.latent.membership;
      heading.textContent = `${shown.title}: ${asteroids(shown.members.length)}`;
      members.fill(
        shown.members.toSorted((a, b) => sure[b] - sure[a]),
        (i) => `${data.bus_class[i]} ${sure[i] === null ? "" : sure[i].toFixed(2)}`,
      );
      draw();
    }
    const draw = soon(() => {
      const held = new Set(shown.members);
      chart.draw({
        lines: shown.members.map((i) => ({ i, colour: groupOf[data.bus_class[i]].colour })),
        strong:
          selection.chosen.length <= MOST_COLOURED
            ? selection.chosen.filter((i) => held.has(i)).map((i) => ({ i, colour: selection.colour(i) }))
            : [],
        bands: [{ ...shown, colour: "#000000", fill: shown.colour, dash: "8px,3px" }],
        span: FIXED_SPAN,
      });
      members.mark();
    });
    chooser.show(shown);
    table();
    show(shown);
    return {
      draw,
      chosen: draw,
      reveal(i) {
        const cluster = data.latent.cluster[i];
        if (cluster === null) return;
        chooser.show(family("cluster", cluster));
        show(family("cluster", cluster));
      },
    };
  },
};
