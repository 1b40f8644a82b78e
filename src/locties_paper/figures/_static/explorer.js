/* The explorer: a choice of place colours the map of each encoder by similarity to it and fills its
   list. A slider changes the month of encoders that take one. Nothing moves by itself, so there is
   no motion to reduce. */
(() => {
  "use strict";

  const LISTED = 8; // rows of a list
  const SPOKEN = 3; // of which this many are said aloud
  const NORTH = 84, SOUTH = -58; // the latitudes that are drawn
  const REACH = 300; // km: how far from land a click still finds it
  const EARTH = 6371; // km, radius
  const RADIANS = Math.PI / 180;

  // ------------------------------------------------------------------ the Equal Earth projection
  // B. Savric, T. Patterson and B. Jenny (2019), doi:10.1080/13658816.2018.1504949
  const A1 = 1.340264, A2 = -0.081106, A3 = 0.000893, A4 = 0.003796, M = Math.sqrt(3) / 2;
  const upwards = (t) => t * (A1 + A2 * t ** 2 + A3 * t ** 6 + A4 * t ** 8);
  const slope = (t) => A1 + 3 * A2 * t ** 2 + 7 * A3 * t ** 6 + 9 * A4 * t ** 8;
  const height = (lat) => upwards(Math.asin(M * Math.sin(lat * RADIANS)));
  const TOP = height(NORTH), BOTTOM = height(SOUTH), RIGHT = Math.PI / (M * A1);

  /* Latitude, and what a degree of longitude is wide, at a height on the map. */
  function parallel(y) {
    let t = y / A1;
    for (let i = 0; i < 8; i++) t -= (upwards(t) - y) / slope(t);
    return { lat: Math.asin(Math.sin(t) / M) / RADIANS, width: (Math.cos(t) / (M * slope(t))) * RADIANS };
  }

  const wrap = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;

  // -------------------------------------------------------------------------------- small helpers
  function bytes(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out.buffer;
  }

  function kilometres(a, b) {
    const half = (x) => Math.sin((x * RADIANS) / 2) ** 2;
    const across = Math.cos(a.lat * RADIANS) * Math.cos(b.lat * RADIANS) * half(a.lon - b.lon);
    return 2 * EARTH * Math.asin(Math.min(1, Math.sqrt(half(a.lat - b.lat) + across)));
  }

  function coordinates({ lon, lat }) {
    const northing = `${Math.abs(lat).toFixed(1)}° ${lat < 0 ? "S" : "N"}`;
    return `${northing}, ${Math.abs(lon).toFixed(1)}° ${lon < 0 ? "W" : "E"}`;
  }

  const plain = (text) => text.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase().trim();

  function start(root, data) {
    const find = (name) => root.querySelector(`.explorer-${name}`);

    // ---------------------------------------------------------------------------------- the data
    const first = [0]; // number of the first cell of each row
    for (const count of data.columns) first.push(first.at(-1) + count);
    const rows = data.columns.length;
    const numbers = new Int32Array(bytes(data.cells));
    const position = new Int32Array(first[rows]).fill(-1); // of every cell among those kept
    numbers.forEach((number, i) => (position[number] = i));

    const rowOf = (lat) => Math.min(rows - 1, Math.max(0, Math.floor(((90 - lat) * rows) / 180)));
    function cellAt(lon, lat) {
      const row = rowOf(lat);
      // Just west of 180 degrees the product can round up to the number of columns.
      const column = Math.floor(((wrap(lon) + 180) / 360) * data.columns[row]);
      return position[first[row] + Math.min(column, data.columns[row] - 1)];
    }
    const centres = Array.from(numbers, (number) => {
      let row = first.findIndex((start) => start > number) - 1;
      const lon = ((number - first[row] + 0.5) * 360) / data.columns[row] - 180;
      return { lon, lat: 90 - ((row + 0.5) * 180) / rows };
    });

    const countries = new Intl.DisplayNames(["en"], { type: "region", fallback: "code" });
    const byCell = new Map(); // the largest city of a cell: the list begins with the largest
    const byName = new Map();
    const cities = data.cities.map(([name, code, lon, lat]) => {
      const city = { name: `${name}, ${countries.of(code)}`, lon, lat, cell: cellAt(lon, lat) };
      if (!byCell.has(city.cell)) byCell.set(city.cell, city);
      if (!byName.has(plain(city.name))) byName.set(plain(city.name), city);
      return city;
    });
    const named = (text) =>
      byName.get(plain(text)) ?? (plain(text) && cities.find((c) => plain(c.name).startsWith(plain(text))));

    const closest = (point, places) =>
      places.reduce((best, place) => {
        const away = kilometres(point, place);
        return away < best.away ? { place, away } : best;
      }, { away: Infinity });

    // -------------------------------------------------------------------------------- similarity
    function unit({ dim, codes }) {
      const values = new Float32Array(new Int8Array(bytes(codes)));
      for (let i = 0; i < values.length; i += dim) {
        let square = 0;
        for (let k = i; k < i + dim; k++) square += values[k] ** 2;
        const length = Math.sqrt(square);
        for (let k = i; k < i + dim; k++) values[k] /= length;
      }
      return { dim, values };
    }
    const encoders = data.encoders.map(({ title, months }) => ({
      title,
      months: months.map(unit), // only one if the encoder takes no month
      similarity: new Float32Array(numbers.length),
    }));
    const seasonal = encoders.filter(({ months }) => months.length > 1);
    const month = () => form.elements.month.valueAsNumber - 1;
    const titleOf = (encoder) =>
      seasonal.includes(encoder) ? `${encoder.title} in ${data.months[month()]}` : encoder.title;

    /* Similarity of every cell to the mean of some cells, which are counted as often as listed. */
    function compare({ months, similarity }, cells) {
      const { dim, values } = months[months.length > 1 ? month() : 0];
      const own = new Float64Array(dim);
      for (const cell of cells) for (let k = 0; k < dim; k++) own[k] += values[cell * dim + k];
      const length = Math.hypot(...own);
      for (let k = 0; k < dim; k++) own[k] /= length;
      for (let i = 0, at = 0; i < similarity.length; i++) {
        let sum = 0;
        for (let k = 0; k < dim; k++) sum += own[k] * values[at++];
        similarity[i] = sum;
      }
    }

    // ---------------------------------------------------------------------- what is on the page
    const maps = find("maps"), lists = find("lists"), said = find("said");
    const form = find("choice"), own = find("own").querySelector("form");
    root.style.setProperty("--count", encoders.length);
    find("low").textContent = data.low.toFixed(1).replace("-", "−") + " and below";
    find("ramp").style.background = `linear-gradient(to right, ${data.colours})`;
    find("ramp").setAttribute("aria-label", "colours from dark, unlike, to light, alike");
    const options = root.querySelector("datalist");
    for (const city of cities) element(options, "option", "", { value: city.name });
    for (const encoder of encoders) {
      const figure = element(maps, "figure", "", { class: "explorer-map" });
      encoder.caption = element(figure, "figcaption");
      encoder.canvas = element(figure, "canvas", "", { role: "img" });
      encoder.picture = document.createElement("canvas");
      encoder.table = element(lists, "table");
    }

    let chosen = null; // the place
    let cursor = null; // where the keyboard is
    let near = new Map(); // encoder to the rows of its list

    // ----------------------------------------------------------------------------------- the maps
    const colours = new Uint32Array(
      data.colours.map((hex) => {
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
        return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
      }),
    );
    const sheet = { width: 0, height: 0 };

    /* `east`: degrees east of the middle of the map, beyond 180 off its edge. */
    function project(east, lat) {
      const t = Math.asin(M * Math.sin(lat * RADIANS));
      const x = (east * RADIANS * Math.cos(t)) / (M * slope(t));
      return [(x + RIGHT) * sheet.scale, (TOP - upwards(t)) * sheet.scale];
    }
    const eastOf = (lon) => wrap(lon - data.centre);

    function unproject(x, y) {
      const { lat, width } = parallel(TOP - y / sheet.scale);
      const lon = (x / sheet.scale - RIGHT) / width;
      return Math.abs(lon) > 180 ? null : { lon: wrap(lon + data.centre), lat };
    }

    /* Closed lines as areas to fill and as shores to draw. */
    function outline({ points, lengths }) {
      const degrees = new Int16Array(bytes(points)); // in hundredths
      const area = new Path2D(), shore = new Path2D();
      let at = 0;
      for (const length of lengths) {
        const end = at + 2 * length;
        if (degrees[at + 1] < 100 * SOUTH) at = end; // Antarctica
        let east = eastOf(degrees[at] / 100);
        for (let i = at; i < end; i += 2) {
          // A line that crosses the seam goes on beyond the edge.
          if (i > at) east += wrap((degrees[i] - degrees[i - 2]) / 100);
          const point = project(east, degrees[i + 1] / 100);
          area[i > at ? "lineTo" : "moveTo"](...point);
          // The source cuts land along meridian 180, which is no shore.
          const cut = i > at && Math.abs(degrees[i]) === 18000 && Math.abs(degrees[i - 2]) === 18000;
          shore[i > at && !cut ? "lineTo" : "moveTo"](...point);
        }
        area.closePath();
        at = end;
      }
      return { area, shore };
    }

    /* All that depends on the size alone: which cell each pixel shows, and the coasts. */
    function layOut() {
      const width = Math.round(encoders[0].canvas.clientWidth * Math.min(2, devicePixelRatio));
      if (!width || width === sheet.width) return;
      sheet.width = width;
      sheet.scale = width / (2 * RIGHT);
      sheet.height = Math.round((TOP - BOTTOM) * sheet.scale);
      sheet.cells = new Int32Array(width * sheet.height).fill(-1);
      for (let y = 0, at = 0; y < sheet.height; y++) {
        for (let x = 0; x < width; x++, at++) {
          const point = unproject(x + 0.5, y + 0.5);
          if (point) sheet.cells[at] = cellAt(point.lon, point.lat);
        }
      }
      sheet.land = outline(data.coasts);
      sheet.lakes = outline(data.lakes);
      sheet.globe = new Path2D();
      for (let lat = NORTH; lat >= SOUTH; lat--) sheet.globe.lineTo(...project(-180, lat));
      for (let lat = SOUTH; lat <= NORTH; lat++) sheet.globe.lineTo(...project(180, lat));
      sheet.globe.closePath();
      for (const { canvas, picture } of encoders) {
        for (const each of [canvas, picture]) [each.width, each.height] = [width, sheet.height];
      }
      for (const encoder of encoders) paint(encoder);
    }

    function paint({ picture, similarity }) {
      if (!sheet.width) return;
      const context = picture.getContext("2d");
      const image = context.createImageData(sheet.width, sheet.height);
      const pixels = new Uint32Array(image.data.buffer);
      const last = colours.length - 1, factor = last / (1 - data.low);
      for (let i = 0; i < pixels.length; i++) {
        const cell = sheet.cells[i];
        if (cell < 0) continue;
        const shade = Math.round((similarity[cell] - data.low) * factor);
        pixels[i] = colours[shade < 0 ? 0 : shade > last ? last : shade];
      }
      context.putImageData(image, 0, 0);
    }

    function draw() {
      if (!sheet.width) return;
      const style = getComputedStyle(root);
      const [sea, land, coast] = ["--sea", "--land", "--coast"].map((name) => style.getPropertyValue(name));
      const line = Math.max(0.5, sheet.width / 1200), dot = Math.max(2, sheet.width / 250);
      for (const encoder of encoders) {
        const context = encoder.canvas.getContext("2d");
        context.clearRect(0, 0, sheet.width, sheet.height);
        context.fillStyle = sea;
        context.fill(sheet.globe);
        context.save();
        context.clip(sheet.globe);
        context.clip(sheet.land.area);
        context.fillStyle = land;
        context.fillRect(0, 0, sheet.width, sheet.height);
        context.drawImage(encoder.picture, 0, 0);
        context.fillStyle = sea;
        context.fill(sheet.lakes.area);
        context.restore();
        context.strokeStyle = coast;
        context.lineWidth = line;
        context.stroke(sheet.land.shore);

        const mark = (place, radius, inner, outer) => {
          const [x, y] = project(eastOf(place.lon), place.lat);
          context.beginPath();
          context.arc(x, y, radius, 0, 2 * Math.PI);
          for (const [colour, wide] of [[outer, 3 * line + 2], [inner, 3 * line]]) {
            context.strokeStyle = colour;
            context.lineWidth = wide;
            context.stroke();
          }
          return [x, y];
        };
        for (const { city } of near.get(encoder) ?? []) mark(city, dot / 2, "white", "black");
        if (chosen.points) for (const point of chosen.points) mark(point, 0.8 * dot, "#ee3377", "white");
        else mark(chosen, 2.5 * dot, "#ee3377", "white");
        if (cursor && document.activeElement === maps) {
          const [x, y] = mark(cursor, 4 * dot, "black", "white");
          for (const [colour, wide] of [["white", 3 * line + 2], ["black", 3 * line]]) {
            context.beginPath();
            for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
              context.moveTo(x + 2 * dot * dx, y + 2 * dot * dy);
              context.lineTo(x + 6 * dot * dx, y + 6 * dot * dy);
            }
            context.strokeStyle = colour;
            context.lineWidth = wide;
            context.stroke();
          }
        }
      }
    }

    // ----------------------------------------------------------------------------------- a choice
    function fill(encoder) {
      const away = Number(form.elements.away.value);
      const candidates = [];
      for (const [cell, largest] of byCell) {
        const city = cell === chosen.cell && cities.includes(chosen) ? chosen : largest;
        const distance = chosen.points ? closest(city, chosen.points).away : kilometres(chosen, city);
        if (distance >= away) candidates.push({ city, distance, similarity: encoder.similarity[cell] });
      }
      candidates.sort((a, b) => b.similarity - a.similarity || a.distance - b.distance);
      near.set(encoder, candidates.slice(0, LISTED));
      const { table, canvas } = encoder, title = titleOf(encoder);
      encoder.caption.textContent = title;
      table.replaceChildren();
      element(table, "caption", `${title}: nearest to ${chosen.name}`);
      const head = element(element(table, "thead"), "tr");
      for (const name of ["Place", "Cosine", "km"]) element(head, "th", name, { scope: "col" });
      const body = element(table, "tbody");
      for (const { city, distance, similarity } of near.get(encoder)) {
        const row = element(body, "tr");
        element(row, "td", city.name);
        element(row, "td", similarity.toFixed(2).replace("-", "−"));
        element(row, "td", Math.round(distance).toLocaleString("en"));
      }
      canvas.setAttribute(
        "aria-label",
        `World map of ${title}, coloured by cosine similarity to ${chosen.name}. ` +
          "The places most like it are in the table of the same name.",
      );
    }

    function list() {
      for (const encoder of encoders) fill(encoder);
      const words = encoders.map((encoder) => {
        const others = near.get(encoder).filter(({ city }) => city !== chosen).slice(0, SPOKEN);
        return `${titleOf(encoder)}: ${others.map(({ city }) => city.name).join("; ")}.`;
      });
      said.textContent = `${chosen.whereabouts ?? chosen.name}. Most like ${chosen.points ? "their mean" : "it"} in ${words.join(" In ")}`;
      draw();
    }

    function colour(some) {
      const began = performance.now();
      for (const encoder of some) {
        compare(encoder, chosen.cells ?? [chosen.cell]);
        paint(encoder);
      }
      list();
      root.dataset.milliseconds = (performance.now() - began).toFixed(1);
    }

    function choose(place) {
      chosen = place;
      if (!place.points) cursor = place;
      colour(encoders);
    }

    /* The slider's month in words, for the eye and for a screen reader. */
    function nameMonth() {
      const slider = form.elements.month, name = data.months[month()];
      slider.nextElementSibling.textContent = name;
      slider.setAttribute("aria-valuetext", name);
    }

    function whereabouts(point) {
      const { place, away } = closest(point, cities);
      return `${coordinates(point)}, ${Math.round(away).toLocaleString("en")} km from ${place.name}`;
    }

    function chooseNear(point) {
      let cell = cellAt(point.lon, point.lat);
      if (cell < 0) {
        const { place, away } = closest(point, centres);
        if (away > REACH) {
          said.textContent = `${coordinates(point)}: the encoders were trained on land north of 60° S only.`;
          return;
        }
        cell = centres.indexOf(place);
      }
      form.elements.city.value = "";
      choose({ ...point, name: coordinates(point), whereabouts: whereabouts(point), cell });
    }

    /* Points of one's own: every cell is compared with the mean of theirs. */
    function choosePoints(text) {
      let read;
      try {
        read = readPoints(text);
      } catch (error) {
        said.textContent = error.message;
        return;
      }
      const { rows, dropped } = read;
      const kept = read.points.map((point) => ({ ...point, cell: cellAt(point.lon, point.lat) })).filter(({ cell }) => cell >= 0);
      if (kept.length < read.points.length) dropped.set("at sea or in Antarctica", read.points.length - kept.length);
      const reasons = [...dropped].map(([reason, count]) => `${count.toLocaleString("en")} ${reason}`).join(", ");
      const counted = `${kept.length.toLocaleString("en")} of ${rows.toLocaleString("en")} rows read${reasons && `, ${reasons} left out`}`;
      if (!kept.length) {
        said.textContent = `${counted}: no point is left on land.`;
        return;
      }
      form.elements.city.value = "";
      // One mark for each cell.
      const points = [...new Map(kept.map((point) => [point.cell, point])).values()];
      const name = `the mean of ${kept.length.toLocaleString("en")} points`;
      choose({ name, whereabouts: counted, points, cells: kept.map(({ cell }) => cell) });
    }

    function chooseCity(city) {
      form.elements.city.value = city.name;
      choose(city);
    }

    // ------------------------------------------------------------------------------------- events
    for (const { canvas } of encoders) {
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const scale = sheet.width / box.width;
        const point = unproject((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
        if (point) chooseNear(point);
      });
    }

    maps.addEventListener("keydown", (event) => {
      const [east, north] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
      if (event.key === "Enter" || event.key === " ") chooseNear({ lon: cursor.lon, lat: cursor.lat });
      else if (!east && !north) return;
      else {
        const cells = event.shiftKey ? 10 : 1;
        const lon = wrap(cursor.lon + (east * cells * 360) / data.columns[rowOf(cursor.lat)]);
        const lat = Math.min(NORTH - 1, Math.max(SOUTH + 1, cursor.lat + (north * cells * 180) / rows));
        cursor = { lon, lat };
        said.textContent = `${cellAt(lon, lat) < 0 ? "Sea" : "Land"} at ${whereabouts(cursor)}.`;
        draw();
      }
      event.preventDefault();
    });

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = form.elements.city.value;
      const city = named(text);
      if (city) chooseCity(city);
      else said.textContent = `No city named “${text}” is listed: try a larger one nearby.`;
    });
    form.elements.city.addEventListener("focus", (event) => event.target.select());
    form.elements.city.addEventListener("input", (event) => {
      // A choice from the list of suggestions is complete; typing goes on until Enter.
      if (event.inputType !== "insertText" && byName.has(plain(event.target.value))) chooseCity(named(event.target.value));
    });
    form.elements.away.addEventListener("change", list);
    form.elements.month.addEventListener("input", () => {
      nameMonth();
      colour(seasonal);
    });

    own.addEventListener("submit", (event) => {
      event.preventDefault();
      choosePoints(own.elements.csv.value);
    });
    const readFile = (file) => file?.text().then(choosePoints);
    own.elements.file.addEventListener("change", (event) => readFile(event.target.files[0]));
    own.elements.csv.addEventListener("dragover", (event) => event.preventDefault());
    own.elements.csv.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return; // text that is dropped goes into the field
      event.preventDefault();
      readFile(event.dataTransfer.files[0]);
    });
    for (const change of ["focus", "blur"]) maps.addEventListener(change, draw);

    const redraw = () => {
      layOut();
      draw();
    };
    new ResizeObserver(redraw).observe(maps);
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

    find("month").hidden = !seasonal.length;
    nameMonth();
    root.hidden = false;
    layOut();
    chooseCity(cities.find((city) => city.name.startsWith(`${data.place}, `)));
  }

  // A live notebook may run this again beside an explorer that has already started.
  for (const root of document.querySelectorAll(".explorer[hidden]")) {
    start(root, JSON.parse(root.parentElement.querySelector(".explorer-data").textContent));
  }
})();
