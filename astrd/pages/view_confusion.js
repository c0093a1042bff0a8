// Catalogued against predicted class, out of fold; a cell lists its asteroids.

const confusionView = {
  id: "confusion",
  title: "Confusion",
  missing: data.judgement ? null : "confusion matrix (no finished training of a candidate)",

  build(host) {
    let level = "main_group";
    const judged = ALL.filter((i) => data.judgement.bus_class[i] !== null);
    const tableHost = make("div", { class: "scroll" });
    const heading = make("h2", { "aria-live": "polite" }, ["No cell chosen yet"]);
    const members = memberList("Asteroids of the cell");
    const lead = make("p", { class: "lead" });
    host.append(
      lead,
      make("div", { class: "bar" }, [
        choice(
          "level",
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
      tableHost,
      make("p", { class: "legend" }, [
        make("span", {}, [make("i", { class: "swatch right" }), "as catalogued"]),
        make("span", {}, [make("i", { class: "swatch wrong" }), "otherwise"]),
        "The fuller the colour, the greater the share of the row. A cell lists its asteroids.",
      ]),
      make("div", { class: "bar" }, [heading]),
      members.host,
    );

    function table() {
      const truth = level === "main_group" ? mainGroup : data.bus_class;
      const predicted = data.judgement[level];
      const order =
        level === "main_group" ? data.groups.map((group) => group.name) : data.groups.flatMap((group) => group.classes);
      const present = new Set(judged.flatMap((i) => [truth[i], predicted[i]]));
      const labels = order.filter((name) => present.has(name));
      const correct = judged.filter((i) => truth[i] === predicted[i]).length;
      const percent = ((100 * correct) / judged.length).toFixed(1);
      lead.textContent =
        `${data.judgement.model}, out of fold: ${correct} of ${judged.length} (${percent}%) of the training part ` +
        "are classed as catalogued, each by networks that had not seen it.";
      tableHost.replaceChildren(
        matrix({
          label: "Confusion matrix",
          rowTitle: "catalogued",
          columnTitle: "predicted",
          rows: labels,
          columns: labels,
          cells: cellsOf(
            (i) => (predicted[i] === null ? null : truth[i]),
            (i) => predicted[i],
          ),
          right: (row, column) => row === column,
          onPick(row, column, found) {
            heading.textContent = `${row} predicted as ${column}: ${asteroids(found.length)}`;
            members.fill(found, (i) => data.bus_class[i]);
            const both = [family(level, row), ...(row === column ? [] : [family(level, column)])];
            selection.set(
              found,
              both.filter((each) => each.members.length),
            );
          },
        }),
      );
    }
    table();
    return { draw: () => members.mark(), chosen: () => members.mark(), reveal() {} };
  },
};
