// Search by name or number: a combobox with a list of matches, numbers that begin so first.

const MOST_MATCHES = 10;
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const searchable = ALL.map((i) => ({ i, number: plain(data.designation[i]), name: plain(data.name[i] ?? "") }));

function matchesOf(text) {
  const wanted = plain(text.trim());
  if (!wanted) return [];
  const whole = `${wanted} `;
  const ranks = [
    ({ number, name }) => number === wanted || name === wanted || `${number} ${name} `.startsWith(whole),
    ({ number, name }) => number.startsWith(wanted) || name.startsWith(wanted),
    ({ number, name }) => `${number} ${name}`.includes(wanted),
  ];
  const found = new Set();
  for (const rank of ranks) for (const each of searchable) if (rank(each)) found.add(each.i);
  return [...found].slice(0, MOST_MATCHES);
}

function searchBox(onFind) {
  const input = document.getElementById("search");
  const list = document.getElementById("matches");
  let found = [];
  let at = 0;

  function show() {
    found = matchesOf(input.value);
    at = 0;
    const none = input.value.trim() && !found.length;
    list.replaceChildren(
      ...found.map((i, n) =>
        make(
          "li",
          {
            role: "option",
            id: `match-${n}`,
            onpointerdown: (event) => event.preventDefault(),
            onclick: (event) => take(n, event.shiftKey),
          },
          [make("span", {}, [called(i)]), make("small", {}, [data.bus_class[i]])],
        ),
      ),
      ...(none ? [make("li", { class: "none" }, ["no such asteroid here"])] : []),
    );
    open(Boolean(found.length || none));
    mark();
  }
  function open(yes) {
    list.hidden = !yes;
    input.setAttribute("aria-expanded", String(yes));
  }
  function mark() {
    [...list.children].forEach((item, n) => item.setAttribute("aria-selected", String(n === at && found.length > 0)));
    if (found.length) input.setAttribute("aria-activedescendant", `match-${at}`);
    else input.removeAttribute("aria-activedescendant");
  }
  function take(n, adding) {
    const i = found[n];
    if (i === undefined) return;
    input.value = "";
    show();
    selection.set(adding ? [...selection.chosen, i] : [i]);
    onFind(i);
  }

  input.addEventListener("input", show);
  input.addEventListener("focus", show);
  input.addEventListener("blur", () => open(false));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at = Math.max(0, Math.min(found.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)));
      mark();
    } else if (event.key === "Enter") take(at, event.shiftKey);
    else if (event.key === "Escape") {
      input.value = "";
      show();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(input|textarea|select)$/i.test(event.target.tagName)) return;
    event.preventDefault();
    input.focus();
  });
}
