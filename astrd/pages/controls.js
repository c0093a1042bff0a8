// Small parts that all views are made of: elements, inks, choices and lists that the keyboard can walk through.

const AT_ONCE = 150; // members listed before the browser gets to paint
const COARSE = matchMedia("(pointer: coarse)").matches;

/** An element with attributes, listeners ("onclick") and children; text children stay text. */
function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/** An element of a vector graphic. */
function vector(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Text that Plotly shall show as it is: it reads tags otherwise. */
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const dark = () => document.documentElement.dataset.theme === "dark";

/** A colour as it is drawn: lighter on a dark page. */
function ink(colour) {
  if (!dark()) return colour;
  if (colour === "#000000") return inks().ink;
  const part = (at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * 0.68 + 255 * 0.32);
  return `#${[1, 3, 5].map((at) => part(at).toString(16).padStart(2, "0")).join("")}`;
}

function withAlpha(colour, alpha) {
  const part = (at) => parseInt(colour.slice(at, at + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
}

/** The colours of the page's style that charts need. */
function inks() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    ink: value("--ink"),
    soft: value("--soft"),
    grid: value("--grid"),
    line: value("--line"),
    font: value("--font"),
    card: value("--card"),
  };
}

/** Work that is asked for several times in a row, and done once, right after. */
function soon(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      work();
    });
  };
}

/** Let arrow keys, Home and End walk through elements of which one at a time is in the tab order. */
function walkable(host, selector, { onMove, columns = () => 1 } = {}) {
  host.addEventListener("keydown", (event) => {
    const items = [...host.querySelectorAll(selector)].filter((item) => !item.disabled);
    const at = items.indexOf(event.target.closest(selector));
    if (at < 0) return;
    const step = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns(),
      ArrowUp: -columns(),
      Home: -at,
      End: items.length - 1 - at,
    }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = items[at + step];
    if (!next) return;
    rove(items, next);
    next.focus();
    onMove?.(next);
  });
}

function rove(items, current) {
  for (const item of items) item.tabIndex = item === current ? 0 : -1;
}

/** A row of buttons of which one is chosen. `options`: [value, label]. */
function choice(label, options, value, onChange) {
  const host = make("div", { class: "choice", role: "radiogroup", "aria-label": label });
  const buttons = options.map(([key, text]) =>
    make("button", { type: "button", role: "radio", "data-value": key, onclick: () => set(key) }, [text]),
  );
  host.append(make("span", { class: "label", "aria-hidden": "true" }, [label]), ...buttons);
  function show(key) {
    buttons.forEach((button, n) => button.setAttribute("aria-checked", String(options[n][0] === key)));
    rove(buttons, buttons[options.findIndex(([each]) => each === key)]);
  }
  function set(key) {
    show(key);
    onChange(key);
  }
  show(value);
  walkable(host, "button", { onMove: (button) => button.click() });
  return host;
}

/** A mean spectrum as a small picture, all on the same scale. */
function sparkline({ mean, colour }) {
  const points = Array.from(
    mean,
    (value, c) =>
      `${((c / (CHANNELS - 1)) * 44 + 1).toFixed(1)},${Math.max(1, Math.min(23, 12 - (value - 1) * 30)).toFixed(1)}`,
  );
  const svg = vector("svg", { viewBox: "0 0 46 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(vector("polyline", { points: points.join(" "), style: `stroke: ${colour}` }));
  return svg;
}

/** Buttons for families, one of which is chosen, in rows. */
function familyChooser(label, rows, onChange) {
  const host = make("div", { class: "chooser", role: "radiogroup", "aria-label": label });
  const buttons = new Map();
  for (const row of rows) {
    const line = make("div", { class: "chooser-row" });
    for (const { short, ...each } of row) {
      const button = make(
        "button",
        {
          type: "button",
          role: "radio",
          "data-level": each.level,
          "data-label": each.label,
          disabled: !each.members.length,
          title: each.members.length
            ? `${each.title}: ${asteroids(each.members.length)}`
            : `${each.title}: no spectrum here`,
          "aria-label": `${each.title}, ${asteroids(each.members.length)}`,
          onclick: () => set(each),
        },
        [sparkline(each), make("b", {}, [short]), make("small", {}, [String(each.members.length)])],
      );
      buttons.set(`${each.level} ${each.label}`, button);
      line.append(button);
    }
    host.append(line);
  }
  function show({ level, label: name }) {
    for (const [key, button] of buttons) button.setAttribute("aria-checked", String(key === `${level} ${name}`));
    rove([...buttons.values()], buttons.get(`${level} ${name}`));
  }
  function set(each) {
    show(each);
    onChange(family(each.level, each.label));
  }
  walkable(host, "button", { onMove: (button) => button.click() });
  return { host, show };
}

/** A list of asteroids; those clicked, or walked to and entered, are chosen. */
function memberList(label) {
  const host = make("ul", { class: "members", role: "listbox", "aria-label": label, "aria-multiselectable": "true" });
  host.addEventListener("click", (event) => pick(event.target.closest("li")));
  host.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    pick(event.target.closest("li"));
  });
  walkable(host, "li");
  let coming;
  function pick(item) {
    if (!item) return;
    rove(host.querySelectorAll("li"), item);
    selection.toggle(Number(item.dataset.index));
  }
  /** `note(i)` is a word on each asteroid. */
  function fill(members, note = () => "") {
    clearTimeout(coming);
    host.replaceChildren();
    add(members, note, 0);
  }
  function add(members, note, from) {
    const to = from + AT_ONCE;
    host.append(
      ...members
        .slice(from, to)
        .map((i, n) =>
          make("li", { role: "option", "data-index": i, tabindex: from + n ? -1 : 0 }, [
            make("span", {}, [called(i)]),
            make("small", {}, [note(i)]),
          ]),
        ),
    );
    mark(from);
    if (to < members.length) coming = setTimeout(() => add(members, note, to));
  }
  function mark(from = 0) {
    const chosen = new Set(selection.chosen);
    for (let n = from; n < host.children.length; n++) {
      const selected = String(chosen.has(Number(host.children[n].dataset.index)));
      if (host.children[n].getAttribute("aria-selected") !== selected)
        host.children[n].setAttribute("aria-selected", selected);
    }
  }
  return { host, fill, mark };
}
