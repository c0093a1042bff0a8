// The data of the page, and the families (classes, groups, clusters) into which asteroids fall.

const data = JSON.parse(document.getElementById("data").textContent);
const WAVELENGTH = data.wavelength;
const CHANNELS = WAVELENGTH.length;
const COUNT = data.designation.length;
const ALL = Array.from({ length: COUNT }, (_, i) => i);

function unpacked({ scale, base64 }) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const integers = new Int16Array(bytes.buffer);
  const values = new Float32Array(integers.length);
  for (let i = 0; i < integers.length; i++) values[i] = integers[i] * scale;
  return values;
}

const smoothed = unpacked(data.smoothed);
const reflectance = (i) => smoothed.subarray(i * CHANNELS, (i + 1) * CHANNELS);

let rawColumns = null; // a quarter of a million points, unpacked when the first are asked for

/** The spectrum as observed: wavelength, reflectance and 1-sigma uncertainty of each point. */
function rawSpectrum(i) {
  if (!rawColumns) {
    const starts = [0];
    for (const points of data.raw.points) starts.push(starts.at(-1) + points);
    rawColumns = { starts };
    for (const name of ["wavelength", "reflectance", "uncertainty"]) rawColumns[name] = unpacked(data.raw[name]);
  }
  const part = (name) => rawColumns[name].subarray(rawColumns.starts[i], rawColumns.starts[i + 1]);
  return { wavelength: part("wavelength"), reflectance: part("reflectance"), uncertainty: part("uncertainty") };
}

/** Designation and name, such as "433 Eros"; provisional designations stand alone. */
const called = (i) => (data.name[i] ? `${data.designation[i]} ${data.name[i]}` : data.designation[i]);
const indexOf = new Map(data.designation.map((designation, i) => [designation, i]));

const groupOf = {};
const groupNamed = {};
for (const group of data.groups) {
  groupNamed[group.name] = group;
  for (const name of group.classes) groupOf[name] = group;
}
const mainGroup = data.bus_class.map((name) => groupOf[name].name);

const CLUSTER_COLOURS = data.cluster_colours;

/** Colours of the chosen asteroids, and of the means beside them, told apart by the colour-blind too. */
const CHOSEN_COLOURS = ["#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C7A00", "#7A4FB5", "#767676"];
const COMPARED_COLOURS = ["#0072B2", "#D55E00"];

const CLUSTERS = data.latent
  ? [...new Set(data.latent.cluster.filter((cluster) => cluster !== null))].sort((a, b) => a - b)
  : [];

const families = new Map();

/** The asteroids that share a label at a level ("all", "main_group", "bus_class", "cluster"). */
function family(level, label) {
  const key = `${level} ${label}`;
  if (!families.has(key)) {
    const labels = { main_group: mainGroup, bus_class: data.bus_class, cluster: data.latent?.cluster }[level];
    const members = level === "all" ? ALL : ALL.filter((i) => labels[i] === label);
    families.set(key, { level, label, members, ...FAMILY[level](label), ...meanAndSpread(members) });
  }
  return families.get(key);
}

const FAMILY = {
  all: () => ({ title: "All classes", colour: "#767676" }),
  main_group: (name) => ({ title: `${name} group`, colour: groupNamed[name].colour }),
  bus_class: (name) => ({ title: `${name} class`, colour: groupOf[name].colour }),
  cluster: (number) => ({ title: `Cluster ${number}`, colour: CLUSTER_COLOURS[(number - 1) % CLUSTER_COLOURS.length] }),
};

/** Mean and standard deviation of the smoothed spectra on each channel; no deviation of fewer than two. */
function meanAndSpread(members) {
  const mean = new Float64Array(CHANNELS);
  const sigma = new Float64Array(CHANNELS);
  for (const i of members) for (let c = 0; c < CHANNELS; c++) mean[c] += smoothed[i * CHANNELS + c] / members.length;
  if (members.length > 1) {
    for (const i of members) for (let c = 0; c < CHANNELS; c++) sigma[c] += (smoothed[i * CHANNELS + c] - mean[c]) ** 2;
    for (let c = 0; c < CHANNELS; c++) sigma[c] = Math.sqrt(sigma[c] / (members.length - 1));
  }
  return { mean, sigma };
}

/** Least and greatest reflectance of these asteroids, with a little room. */
function span(members) {
  let low = Infinity;
  let high = -Infinity;
  for (const i of members) {
    for (const value of reflectance(i)) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const room = 0.04 * (high - low) + 0.01;
  return [low - room, high + room];
}

const FIXED_SPAN = span(ALL);
const asteroids = (count) => `${count} ${count === 1 ? "asteroid" : "asteroids"}`;
