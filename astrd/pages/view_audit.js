// The label audit: asteroids whose catalogued class the models contradict, and their spectra over both class means.

const auditView = {
  id: "audit",
  title: "Label audit",
  missing: data.audit ? null : "label audit (no finished audit step)",

  build(host) {
    const percent = (value) => (value === null || value === undefined ? "" : `${Math.round(100 * value)}%`);
    const columns = [
      ["#", (row) => row.rank, "number wide"],
      ["asteroid", (row) => called(indexOf.get(row.designation)), "name"],
      ["level", (row) => (levelOf(row) === "main_group" ? "group" : "class"), "wide"],
      ["catalogued", (row) => row.catalogued, "label"],
      ["suggested", (row) => row.suggested, "label"],
      ["probability", (row) => percent(row.probability), "number"],
      ["of catalogued", (row) => percent(row.catalogued_probability), "number wide"],
      ["models", (row) => row.models ?? "", "wide"],
      ["noise draws", (row) => percent(row.draw_share), "number wide"],
    ];
    const body = make(
      "tbody",
      {},
      data.audit.map((row, n) =>
        make(
          "tr",
          { tabindex: n ? -1 : 0, "aria-selected": "false", "data-place": n },
          columns.map(([, value, kind]) => make("td", { class: kind }, [String(value(row))])),
        ),
      ),
    );
    const contradicted = new Set(data.audit.map((row) => row.designation)).size;
    const levels = [...new Set(data.audit.map(levelOf))];
    host.append(
      make("p", { class: "lead" }, [
        data.audit.length
          ? `The catalogued class of these ${asteroids(contradicted)} is contradicted out of fold, the ` +
            "surest of each level first. A row draws the spectrum over the means of both classes."
          : "No catalogued class is contradicted.",
      ]),
      ...(levels.length > 1
        ? [
            make("div", { class: "bar" }, [
              choice(
                "level",
                [
                  ["both", "both"],
                  ["main_group", "main group"],
                  ["bus_class", "Bus class"],
                ],
                "both",
                (value) => {
                  [...body.rows].forEach((line, n) => {
                    line.hidden = value !== "both" && levelOf(data.audit[n]) !== value;
                  });
                  const first = [...body.rows].find((line) => !line.hidden);
                  if (first) rove(body.rows, first);
                },
              ),
            ]),
          ]
        : []),
      make("div", { class: "scroll" }, [
        make("table", { class: "audit", role: "grid", "aria-label": "Label audit" }, [
          make("thead", {}, [
            make(
              "tr",
              {},
              columns.map(([title, , kind]) => make("th", { scope: "col", class: kind }, [title])),
            ),
          ]),
          body,
        ]),
      ]),
    );
    function pick(line) {
      if (!line?.dataset.place) return;
      const row = data.audit[Number(line.dataset.place)];
      for (const other of body.rows) other.setAttribute("aria-selected", String(other === line));
      rove(body.rows, line);
      selection.set(
        [indexOf.get(row.designation)],
        [family(levelOf(row), row.catalogued), family(levelOf(row), row.suggested)],
        said(row),
      );
    }
    function said(row) {
      const parts = [
        `Catalogued ${row.catalogued} (solid mean), suggested ${row.suggested} (dashed)` +
          ` with ${percent(row.probability)}.`,
      ];
      if (row.models) parts.push(`${row.models} models contradict the catalogue.`);
      if (row.draw_share !== null && row.draw_share !== undefined)
        parts.push(`The contradiction stands in ${percent(row.draw_share)} of noise draws.`);
      if (row.neighbours) parts.push(`Nearest neighbours: ${row.neighbours}.`);
      return parts.join(" ");
    }
    body.addEventListener("click", (event) => pick(event.target.closest("tr")));
    body.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        pick(event.target.closest("tr"));
      }
    });
    walkable(body, "tr:not([hidden])", { onMove: pick });
    return {
      draw() {},
      chosen() {},
      reveal(i) {
        const line = [...body.rows].find(
          (each) => data.audit[Number(each.dataset.place)].designation === data.designation[i],
        );
        if (!line) return;
        pick(line);
        line.scrollIntoView({ block: "nearest" });
      },
    };
  },
};

const levelOf = (row) => (row.level === "main_group" ? "main_group" : "bus_class");
