/* Points of a CSV with columns of longitude and latitude in degrees: `points`, the number of `rows`,
   and `dropped`, the rows left out by reason. An Error says why a text cannot be read, or could be
   read in two ways. */
function readPoints(text) {
  "use strict";
  const refuse = (message) => {
    throw new Error(message);
  };
  const lines = text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/).filter((line) => line.trim());
  if (lines.length < 2) refuse("There is no row: paste a header with lon and lat, and a row for each point.");

  const separators = [",", ";", "\t"].filter((mark) => fields(lines[0], mark).length > 1);
  if (separators.length !== 1) {
    const found = separators.length ? "several separators" : "one column";
    refuse(`The header “${lines[0]}” has ${found}: separate its columns by commas, and nothing else.`);
  }
  const [separator] = separators;

  /* The fields of a line; quotes keep separators, and a double quote inside them stands for one. */
  function fields(line, mark) {
    const found = [""];
    let quoted = false;
    for (let i = 0; i < line.length; i++) {
      const last = found.length - 1;
      if (line[i] === '"' && quoted && line[i + 1] === '"') found[last] += line[i++];
      else if (line[i] === '"') quoted = !quoted;
      else if (line[i] === mark && !quoted) found.push("");
      else found[last] += line[i];
    }
    return found.map((field) => field.trim());
  }

  const header = fields(lines[0], separator);
  const called = (names) => {
    const plain = header.map((name) => name.toLowerCase().replace(/[([].*?[)\]]|[^a-z]/g, ""));
    const at = plain.flatMap((name, i) => (names.includes(name) ? [i] : []));
    if (at.length === 1) return at[0];
    const what = at.length ? "several columns" : "no column";
    return refuse(`The header “${lines[0]}” has ${what} named ${names.join(" or ")}: keep one.`);
  };
  const east = called(["lon", "longitude", "lng", "long"]);
  const north = called(["lat", "latitude"]);

  const dropped = new Map();
  const drop = (reason) => dropped.set(reason, (dropped.get(reason) ?? 0) + 1);
  const points = [];
  let outside = 0, swapped = 0;
  for (const line of lines.slice(1)) {
    const row = fields(line, separator);
    const texts = [row[east] ?? "", row[north] ?? ""];
    if (row.length > header.length) {
      refuse(`The row “${line}” has more columns than the header: write numbers with a point, as in 13.4.`);
    }
    if (texts.some((value) => /^[+-]?\d+,\d+$/.test(value))) {
      refuse(`The row “${line}” has numbers with a comma: write them with a point, as in 13.4.`);
    }
    const [lon, lat] = texts.map((value) => (/^[+−-]?[\d.]+(e[+-]?\d+)?$/i.test(value) ? Number(value.replace("−", "-")) : NaN));
    if (Number.isNaN(lon) || Number.isNaN(lat)) drop("without two numbers");
    else if (Math.abs(lat) > 90 || Math.abs(lon) > 360) {
      outside += 1;
      swapped += Math.abs(lon) <= 90 && Math.abs(lat) <= 180;
      drop("outside the range of degrees");
    } else points.push({ lon, lat });
  }
  if (swapped && swapped === outside && points.every(({ lon }) => Math.abs(lon) <= 90)) {
    refuse(`Latitudes beyond 90 degrees (rows: ${swapped}): lon and lat look swapped in the header.`);
  }
  return { points, rows: lines.length - 1, dropped };
}
