// The asteroids that are chosen, in any view, and the panel that draws them.

const MOST_LISTED = 80;
const MOST_COLOURED = CHOSEN_COLOURS.length;
const FAMOUS = ["Ceres", "Vesta", "Psyche", "Eros", "Lutetia", "Nenetta"];

const selection = {
  chosen: [],
  against: null, // families whose means are drawn beside; null: those of the chosen, if they are few
  note: "", // what is said of the choice
  listeners: [],

  /** Choose exactly these asteroids. */
  set(indices, against = null, note = "") {
    this.chosen = [...new Set(indices)];
    this.against = against;
    this.note = note;
    for (const listener of this.listeners) listener();
  },

  /** Add an asteroid, or take it out. */
  toggle(i) {
    this.set(this.chosen.includes(i) ? this.chosen.filter((other) => other !== i) : [...this.chosen, i], this.against);
  },

  /** The colour that tells a chosen asteroid from the others, or its main group's when they are many. */
  colour(i) {
    const place = this.chosen.indexOf(i);
    return this.chosen.length <= MOST_COLOURED ? CHOSEN_COLOURS[place] : groupOf[data.bus_class[i]].colour;
  },

  families() {
    if (this.against) return this.against;
    const classes = [...new Set(this.chosen.map((i) => data.bus_class[i]))];
    return classes.length <= 2 ? classes.map((name) => family("bus_class", name)) : [];
  },
};

function selectionPanel() {
  const at = (id) => document.getElementById(id);
  const chart = new SpectraChart(at("panel-chart"), { onPick: (i) => focusOn(i) });
  const points = at("points");
  const fold = at("fold");

  function focusOn(i) {
    at("panel-list").querySelector(`[data-index="${i}"]`)?.focus();
  }

  const draw = soon(() => {
    const { chosen } = selection;
    const panel = at("panel");
    panel.classList.toggle("empty", chosen.length === 0);
    at("panel-title").textContent = chosen.length ? `${chosen.length} chosen` : "Nothing chosen yet";
    at("clear").disabled = chosen.length === 0;
    const few = chosen.length <= MOST_COLOURED;
    points.disabled = !few;
    points.parentElement.title = few ? "" : `For up to ${MOST_COLOURED} chosen asteroids`;
    const compared = selection.families();
    chart.draw({
      lines: chosen.map((i) => ({ i, colour: selection.colour(i), width: few ? 2 : 1 })),
      bands: compared.map((each, n) => ({ ...each, colour: COMPARED_COLOURS[n], dash: n ? "dash" : "solid" })),
      raw: few && points.checked ? chosen.map((i) => ({ i, colour: selection.colour(i) })) : [],
      span: null,
    });
    legend(compared);
    list(few);
  });

  function legend(compared) {
    const parts = compared.map((each, n) =>
      make("span", {}, [
        make("i", { class: n ? "key dashed" : "key", style: `color:${ink(COMPARED_COLOURS[n])}` }),
        `mean and 1σ: ${each.title} (${each.members.length})`,
      ]),
    );
    at("panel-legend").replaceChildren(...parts);
    at("panel-note").textContent = selection.note;
  }

  function invitation() {
    const famous = ALL.filter((i) => FAMOUS.includes(data.name[i]));
    at("panel-hint").replaceChildren(
      "Choose a line, a point, a row or a cell, or search: the spectra are drawn here.",
      ...(famous.length ? [" To begin with: "] : []),
      ...famous.map((i) =>
        make("button", { type: "button", class: "small", onclick: () => selection.set([i]) }, [called(i)]),
      ),
    );
  }

  function list(few) {
    const shown = selection.chosen.slice(0, MOST_LISTED);
    const rows = shown.map((i) =>
      make("li", {}, [
        make("i", { class: few ? "key" : "dot", style: `color:${ink(selection.colour(i))}` }),
        make("span", { class: "name" }, [called(i)]),
        make("span", { class: "facts" }, [facts(i)]),
        make(
          "button",
          {
            type: "button",
            class: "small",
            "data-index": i,
            "aria-label": `Take out ${called(i)}`,
            onclick: () => selection.toggle(i),
          },
          ["×"],
        ),
      ]),
    );
    const more = selection.chosen.length - shown.length;
    if (more > 0) rows.push(make("li", { class: "more" }, [`and ${more} more`]));
    at("panel-list").replaceChildren(...rows);
  }

  points.addEventListener("change", draw);
  at("clear").addEventListener("click", () => selection.set([]));
  fold.addEventListener("click", () => {
    const folded = at("panel").classList.toggle("folded");
    fold.setAttribute("aria-expanded", String(!folded));
    fold.textContent = folded ? "Show" : "Hide";
    if (!folded) draw();
  });
  selection.listeners.push(draw);
  invitation();
  return { draw };
}

/** What is known of an asteroid, in a few words. */
function facts(i) {
  const words = [data.bus_class[i]];
  const predicted = data.judgement?.bus_class[i];
  if (predicted) words.push(`predicted ${predicted}`);
  else if (data.judgement) words.push("test part");
  if (data.latent?.cluster[i]) words.push(`cluster ${data.latent.cluster[i]}`);
  return words.join(" · ");
}
