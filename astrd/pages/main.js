// Tabs, theme, and the start.

const VIEWS = [spectraView, latentView, clustersView, auditView, confusionView];
const present = VIEWS.filter((view) => !view.missing && (view !== clustersView || data.latent));
const built = new Map();
const stale = new Set(); // views that were drawn in the other theme
let current = null;

function tabs() {
  const host = document.getElementById("tabs");
  for (const view of present) {
    host.append(
      make(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${view.id}`,
          "aria-controls": `view-${view.id}`,
          onclick: () => open(view),
        },
        [view.title],
      ),
    );
    document
      .getElementById("views")
      .append(
        make("section", { id: `view-${view.id}`, role: "tabpanel", "aria-labelledby": `tab-${view.id}`, hidden: true }),
      );
  }
  walkable(host, "button", { onMove: (button) => button.click() });
}

function open(view) {
  current = view;
  for (const each of present) {
    const chosen = each === view;
    document.getElementById(`view-${each.id}`).hidden = !chosen;
    document.getElementById(`tab-${each.id}`).setAttribute("aria-selected", String(chosen));
  }
  rove(document.querySelectorAll("#tabs button"), document.getElementById(`tab-${view.id}`));
  if (!built.has(view)) built.set(view, view.build(document.getElementById(`view-${view.id}`)));
  else if (stale.delete(view)) built.get(view).draw();
  else built.get(view).chosen();
}

/** The system's theme until the reader chooses; the choice is kept where the browser lets a page keep things. */
function theme(redraw) {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const keep = (name) => {
    try {
      localStorage.setItem("theme", name);
    } catch {
      /* a frame without storage */
    }
  };
  function apply(name) {
    document.documentElement.dataset.theme = name;
    button.textContent = name === "dark" ? "☀" : "☾";
    redraw();
  }
  button.addEventListener("click", () => {
    const name = dark() ? "light" : "dark";
    keep(name);
    apply(name);
  });
  system.addEventListener("change", () => {
    if (!kept()) apply(system.matches ? "dark" : "light");
  });
  apply(kept() ?? (system.matches ? "dark" : "light"));
}

function start() {
  const survey = data.source === "smass2" ? "SMASS II" : "a simulated survey";
  document.getElementById("provenance").textContent =
    `${COUNT} visible spectra of ${survey} in the Bus taxonomy${data.run ? ` · ${data.run.name}` : ""}`;
  if (data.run) document.getElementById("provenance").title = `MLflow run ${data.run.id}`;
  document.getElementById("simulated").hidden = data.source === "smass2";
  const missing = VIEWS.map((view) => view.missing).filter(Boolean);
  document.getElementById("absent").textContent = missing.length ? `Not here: ${missing.join("; ")}.` : "";
  tabs();
  const panel = selectionPanel();
  theme(() => {
    panel.draw();
    for (const view of built.keys()) stale.add(view);
    if (current) open(current);
  });
  selection.listeners.push(() => built.get(current).chosen());
  searchBox((i) => built.get(current).reveal(i));
  open(present[0]);
}

start();
