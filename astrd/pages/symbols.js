// Ten shapes that tell classes apart where colours alone would not; the same on canvas and in legends.

/** Corners of a star between two radii; of as many corners on one radius where they are equal. Turns are in degrees. */
function corners(points, inner, turn, size = 1) {
  const even = inner === 1;
  const count = even ? points : 2 * points;
  return Array.from({ length: count }, (_, n) => {
    const angle = ((turn - 90 + (360 * n) / count) * Math.PI) / 180;
    const radius = size * (even || n % 2 === 0 ? 1 : inner);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const SYMBOLS = [
  corners(24, 1, 0, 0.92),
  corners(4, 1, 45, 1.12),
  corners(4, 1, 0, 1.15),
  corners(3, 1, 0, 1.2),
  corners(4, 0.42, 0, 1.4),
  corners(4, 0.42, 45, 1.4),
  corners(5, 0.45, 0, 1.35),
  corners(5, 1, 0, 1.05),
  corners(3, 1, 180, 1.2),
  corners(6, 0.55, 0, 1.3),
].map((points) => ({ points, text: points.map((point) => point.map((at) => at.toFixed(3)).join(",")).join(" ") }));

/** A symbol as a path round its place, for a canvas. */
function symbolPath({ points }, x, y, radius) {
  const path = new Path2D();
  for (const [dx, dy] of points) path.lineTo(x + radius * dx, y + radius * dy);
  path.closePath();
  return path;
}

/** A symbol as a small picture, for a legend. */
function symbolPicture({ text }, colour) {
  const svg = vector("svg", { viewBox: "-1.5 -1.5 3 3", class: "symbol", "aria-hidden": "true" });
  svg.append(vector("polygon", { points: text, fill: colour }));
  return svg;
}
