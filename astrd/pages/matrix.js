// A table of counts whose cells can be entered: catalogued against predicted class, class against cluster.

const HALF_TONE = 0.6; // the share of a row above which a cell's colour is full, and its number light

/** Percent of the full colour for a share of the row; between 60 and 92 neither dark nor light numbers can be read. */
const depth = (share) => Math.round(share > HALF_TONE ? 92 + 20 * (share - HALF_TONE) : 6 + 90 * share);

/**
 * `cells.get("row column")` lists asteroids. `right(row, column)` says which cells agree. The keyboard walks through
 * all cells; those with asteroids call `onPick(row, column, members)`.
 */
function matrix({ label, rowTitle, columnTitle, rows, columns, cells, right = () => true, name = String, onPick }) {
  const members = (row, column) => cells.get(`${row} ${column}`) ?? [];
  const table = make("table", {
    class: columns.length > 10 ? "matrix dense" : "matrix",
    role: "grid",
    "aria-label": label,
  });
  const head = make("tr", {}, [
    make("th", { class: "corner" }, [`${rowTitle} ↓  ${columnTitle} →`]),
    ...columns.map((column) => make("th", { scope: "col" }, [name(column)])),
  ]);
  const body = rows.map((row) => {
    const total = columns.reduce((sum, column) => sum + members(row, column).length, 0);
    return make("tr", {}, [
      make("th", { scope: "row" }, [name(row)]),
      ...columns.map((column) => cell(row, column, total)),
    ]);
  });
  function cell(row, column, total) {
    const count = members(row, column).length;
    const share = count / Math.max(total, 1);
    const words = `${rowTitle} ${name(row)}, ${columnTitle} ${name(column)}: ${asteroids(count)}`;
    return make(
      "td",
      {
        role: "gridcell",
        tabindex: -1,
        "data-row": row,
        "data-column": column,
        class: right(row, column) ? "right" : "wrong",
        style: count ? `--share:${depth(share)}%` : null,
        "data-strong": share > HALF_TONE,
        "aria-label": words,
        title: count ? `${words} (${(100 * share).toFixed(1)}% of the row)` : null,
        onclick: (event) => pick(event.currentTarget),
      },
      [count ? String(count) : ""],
    );
  }
  function pick(target) {
    const found = members(
      rows.find((row) => String(row) === target.dataset.row),
      columns.find((column) => String(column) === target.dataset.column),
    );
    if (!found.length) return;
    table.querySelector("[aria-selected=true]")?.removeAttribute("aria-selected");
    target.setAttribute("aria-selected", "true");
    rove(table.querySelectorAll("td"), target);
    onPick(
      rows.find((row) => String(row) === target.dataset.row),
      columns.find((column) => String(column) === target.dataset.column),
      found,
    );
  }
  table.append(make("thead", {}, [head]), make("tbody", {}, body));
  table.querySelector("td")?.setAttribute("tabindex", "0");
  table.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    pick(event.target);
  });
  walkable(table, "td", { columns: () => columns.length });
  return table;
}

/** The asteroids in each cell: `rowOf(i)` and `columnOf(i)` name it, null leaves an asteroid out. */
function cellsOf(rowOf, columnOf) {
  const cells = new Map();
  for (const i of ALL) {
    const [row, column] = [rowOf(i), columnOf(i)];
    if (row === null || column === null) continue;
    const key = `${row} ${column}`;
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(i);
  }
  return cells;
}
