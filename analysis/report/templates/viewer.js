// Molecules on a canvas: spheres and bonds sorted by depth, turned by drag or arrow keys. One viewer for each
// figure of class "viewer"; its data, made by analysis/report/viewer.py, lie in the figure as JSON. Asks for nothing.
"use strict";
(() => {
  const HUNDREDTH = 0.01; // Å, unit of the coordinates in the data
  const LEVELS = 64; // shades between zero and the largest relevance
  const [NEUTRAL, OUTLINE, LINE] = ["#b4b9be", "#30363c", "#8c8c8c"];
  const BOND = 0.11; // Å, half the width of a bond

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const product = (a, b) => a.map((row) => [0, 1, 2].map((k) => row[0] * b[0][k] + row[1] * b[1][k] + row[2] * b[2][k]));
  const aboutX = (t) => [[1, 0, 0], [0, Math.cos(t), -Math.sin(t)], [0, Math.sin(t), Math.cos(t)]];
  const aboutY = (t) => [[Math.cos(t), 0, Math.sin(t)], [0, 1, 0], [-Math.sin(t), 0, Math.cos(t)]];
  const rows = (flat) => Array.from({ length: flat.length / 3 }, (_, k) => flat.slice(3 * k, 3 * k + 3));
  const numberText = (value) => String(Number(value.toPrecision(3))).replaceAll("-", "−");

  // The picture of a sphere of one colour, drawn once and then copied to every atom that has it.
  const sprites = new Map();
  function sprite(color) {
    if (!sprites.has(color)) {
      const size = 128;
      const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
      const ink = canvas.getContext("2d");
      ink.arc(size / 2, size / 2, size / 2 - 3, 0, 2 * Math.PI);
      ink.fillStyle = color;
      ink.fill();
      const light = ink.createRadialGradient(0.36 * size, 0.32 * size, 0.02 * size, size / 2, size / 2, size / 2);
      light.addColorStop(0, "rgba(255,255,255,0.75)");
      light.addColorStop(0.28, "rgba(255,255,255,0)");
      light.addColorStop(0.7, "rgba(0,0,0,0)");
      light.addColorStop(1, "rgba(0,0,0,0.32)");
      ink.fillStyle = light;
      ink.fill();
      ink.lineWidth = 4;
      ink.strokeStyle = OUTLINE;
      ink.stroke();
      sprites.set(color, canvas);
    }
    return sprites.get(color);
  }

  class Viewer {
    constructor(figure) {
      this.scene = JSON.parse(figure.querySelector(".scene").textContent);
      this.find = (name) => figure.querySelector(`.${name}`);
      this.canvas = figure.querySelector("canvas");
      this.ink = this.canvas.getContext("2d");
      this.frames = this.scene.frames.map((frame) => ({
        label: frame.label,
        molecule: this.scene.molecules[frame.molecule],
        places: rows(frame.positions).map((p) => p.map((x) => x * HUNDREDTH)),
        cell: frame.cell && rows(frame.cell).map((p) => p.map((x) => x * HUNDREDTH)),
        corner: frame.corner && frame.corner.map((x) => x * HUNDREDTH),
      }));
      this.radius = Math.max(...this.frames.map((frame) => this.reach(frame)));
      this.number = 0;
      this.pointers = new Map();
      this.reset();
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      this.show();
    }

    get frame() { return this.frames[this.number]; }
    get way() { return this.scene.ways[this.find("way").value]; } // undefined: colours of elements

    reach(frame) {
      const corners = frame.cell ? this.corners(frame) : [];
      return [...frame.places, ...corners].reduce((far, p) => Math.max(far, Math.hypot(...p)), 0) + 0.4;
    }

    reset() {
      this.turn = this.scene.view;
      this.zoom = 1;
    }

    // ------------------------------------------------------------------------------------ what people do

    listen() {
      const on = (name, event, act) => this.find(name).addEventListener(event, act);
      on("way", "change", () => this.show());
      on("labels", "change", () => this.show());
      on("frame", "input", () => { this.number = Number(this.find("frame").value); this.show(); });
      on("play", "click", () => this.play(!this.timer));
      on("reset", "click", () => { this.reset(); this.show(); });
      const { canvas } = this;
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
      });
      canvas.addEventListener("pointermove", (event) => this.move(event));
      for (const end of ["pointerup", "pointercancel"])
        canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
      canvas.addEventListener("pointerleave", () => this.tell());
      canvas.addEventListener("dblclick", () => { this.reset(); this.show(); });
      canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
    }

    move(event) {
      const before = this.pointers.get(event.pointerId);
      const now = [event.clientX, event.clientY];
      if (!before) return this.tell(this.atomAt(event.offsetX, event.offsetY));
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      this.pointers.set(event.pointerId, now);
      if (others.length) {
        const apart = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]) || 1;
        this.magnify(apart(now) / apart(before));
      } else this.rotate((now[1] - before[1]) * 0.01, (now[0] - before[0]) * 0.01);
    }

    // A wheel over a picture that nobody has chosen scrolls the page.
    wheel(event) {
      if (document.activeElement !== this.canvas) return;
      event.preventDefault();
      this.magnify(Math.exp(-0.0015 * event.deltaY));
    }

    key(event) {
      const act = {
        ArrowLeft: () => this.rotate(0, -0.15), ArrowRight: () => this.rotate(0, 0.15),
        ArrowUp: () => this.rotate(-0.15, 0), ArrowDown: () => this.rotate(0.15, 0),
        "+": () => this.magnify(1.15), "=": () => this.magnify(1.15), "-": () => this.magnify(1 / 1.15),
        0: () => { this.reset(); this.draw(); },
        PageDown: () => this.step(1), PageUp: () => this.step(-1),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    }

    rotate(x, y) {
      this.turn = product(aboutX(x), product(aboutY(y), this.turn));
      this.draw();
    }

    magnify(factor) {
      this.zoom = Math.min(20, Math.max(0.2, this.zoom * factor));
      this.draw();
    }

    step(count) {
      const last = this.frames.length - 1;
      this.number = Math.min(last, Math.max(0, this.number + count));
      this.show();
    }

    play(going) {
      clearInterval(this.timer);
      const every = () => { this.number = (this.number + 1) % this.frames.length; this.show(); };
      this.timer = going ? setInterval(every, 100) : 0;
      this.find("play").textContent = going ? "❚❚ Pause" : "▶ Play";
    }

    // ------------------------------------------------------------------------------------ what is written

    show() {
      const { way, frame } = this;
      this.find("frame").value = this.number;
      this.find("frame").setAttribute("aria-valuetext", frame.label);
      this.find("state").textContent = frame.label;
      this.find("scale").hidden = !way;
      this.find("elements").hidden = Boolean(way);
      if (way) {
        this.find("low").textContent = numberText(-way.largest);
        this.find("high").textContent = `+${numberText(way.largest)}`;
        this.find("unit").textContent = `${way.title} (${way.unit})`;
      }
      this.tell();
      this.draw();
    }

    tell(atom) {
      this.find("atom").textContent = atom === undefined ? "" : `${this.name(atom)} ${this.value(atom)}`;
    }

    name(atom) { return `${this.frame.molecule.symbols[atom]}${atom}`; }

    value(atom) {
      return this.way ? `${numberText(this.way.atoms[this.number][atom])} ${this.way.unit}` : "";
    }

    // ------------------------------------------------------------------------------------ what is drawn

    draw() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
    }

    paint() {
      const { canvas, ink } = this;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (!width) return;
      const sharp = Math.max(2, window.devicePixelRatio); // two for paper
      if (canvas.width !== Math.round(width * sharp)) {
        canvas.width = Math.round(width * sharp);
        canvas.height = Math.round(height * sharp);
      }
      ink.setTransform(sharp, 0, 0, sharp, 0, 0);
      ink.clearRect(0, 0, width, height);
      this.scale = (this.zoom * (width + height)) / 4 / this.radius;
      this.middle = [width / 2, height / 2];
      this.turned = this.frame.places.map((p) => this.turn.map((row) => dot(row, p)));
      const edges = this.frame.cell ? this.edges() : [];
      edges.filter((edge) => edge.depth <= 0).forEach((edge) => this.line(edge));
      [...this.halves(), ...this.spheres()].sort((a, b) => a.depth - b.depth).forEach((one) => one.draw());
      ink.globalAlpha = 0.5;
      edges.filter((edge) => edge.depth > 0).forEach((edge) => this.line(edge));
      ink.globalAlpha = 1;
      this.write();
    }

    screen(p) { return [this.middle[0] + p[0] * this.scale, this.middle[1] - p[1] * this.scale]; }

    element(atom) { return this.scene.elements[this.frame.molecule.symbols[atom]]; }

    size(atom) { return this.element(atom).radius; }

    color(value) {
      const share = Math.round((LEVELS * value) / this.way.largest) / LEVELS;
      const end = this.scene.ends[share < 0 ? 0 : 1];
      return `rgb(${end.map((c) => Math.round(255 + Math.abs(share) * (c - 255))).join()})`;
    }

    atomColor(atom) {
      if (this.way) return this.color(this.way.atoms[this.number][atom]);
      return this.element(atom).color;
    }

    spheres() {
      return this.turned.map((place, atom) => ({
        depth: place[2],
        draw: () => {
          const [x, y] = this.screen(place);
          const r = this.size(atom) * this.scale;
          this.ink.drawImage(sprite(this.atomColor(atom)), x - r, y - r, 2 * r, 2 * r);
        },
      }));
    }

    // Half a bond from each of its atoms: one that crosses a face of the cell ends in two stubs.
    halves() {
      const values = this.way && this.way.bonds[this.number];
      return this.frame.molecule.bonds.flatMap(([i, j, ...shift], number) => {
        const value = values ? values[number] : null;
        const away = this.vector(i, j, shift);
        if (Math.hypot(...away) > this.scene.broken * (this.element(i).covalent + this.element(j).covalent)) return [];
        return [this.half(i, away, value), this.half(j, away.map((x) => -x), value)];
      });
    }

    vector(i, j, shift) {
      const { turned, turn } = this;
      const across = shift.length ? [0, 1, 2].map((k) => shift.reduce((sum, n, row) => sum + n * this.frame.cell[row][k], 0)) : [0, 0, 0];
      return [0, 1, 2].map((k) => turned[j][k] - turned[i][k] + dot(turn[k], across));
    }

    half(atom, away, value) {
      const length = Math.hypot(...away) || 1;
      const along = (distance) => this.turned[atom].map((x, k) => x + (away[k] / length) * distance);
      const start = along(Math.min(0.8 * this.size(atom), length / 2));
      const end = along(length / 2 + 0.01); // no seam
      const share = value === null ? 0.5 : Math.abs(value) / this.way.largest;
      const color = value === null ? (this.way ? NEUTRAL : this.atomColor(atom)) : this.color(value);
      const width = 2 * BOND * this.scale * (0.6 + 0.8 * share);
      return { depth: (start[2] + end[2]) / 2, draw: () => this.stick(start, end, width, color) };
    }

    stick(start, end, width, color) {
      const { ink } = this;
      ink.beginPath();
      ink.moveTo(...this.screen(start));
      ink.lineTo(...this.screen(end));
      for (const [style, wide] of [[OUTLINE, width + 1.4], [color, width]]) {
        ink.strokeStyle = style;
        ink.lineWidth = wide;
        ink.stroke();
      }
    }

    corners(frame) {
      const [a, b, c] = frame.cell;
      return [0, 1, 2, 3, 4, 5, 6, 7].map((n) =>
        frame.corner.map((x, k) => x + (n & 1) * a[k] + ((n >> 1) & 1) * b[k] + (n >> 2) * c[k]));
    }

    edges() {
      const corners = this.corners(this.frame).map((p) => this.turn.map((row) => dot(row, p)));
      const pairs = corners.flatMap((_, n) => [1, 2, 4].filter((bit) => !(n & bit)).map((bit) => [n, n | bit]));
      return pairs.map(([m, n]) => ({ ends: [corners[m], corners[n]], depth: corners[m][2] + corners[n][2] }));
    }

    line(edge) {
      const { ink } = this;
      ink.beginPath();
      ink.moveTo(...this.screen(edge.ends[0]));
      ink.lineTo(...this.screen(edge.ends[1]));
      ink.strokeStyle = LINE;
      ink.lineWidth = 1;
      ink.stroke();
    }

    write() {
      const what = this.find("labels").value;
      if (what === "none") return;
      const { ink } = this;
      ink.font = "600 12px system-ui, sans-serif";
      ink.textAlign = "center";
      ink.textBaseline = "middle";
      ink.lineWidth = 3;
      ink.lineJoin = "round";
      const order = this.turned.map((_, atom) => atom).sort((a, b) => this.turned[a][2] - this.turned[b][2]);
      for (const atom of order) {
        const text = what === "values" && this.way ? numberText(this.way.atoms[this.number][atom]) : this.name(atom);
        const place = this.screen(this.turned[atom]);
        ink.strokeStyle = "rgba(255,255,255,0.85)";
        ink.strokeText(text, ...place);
        ink.fillStyle = "#000000";
        ink.fillText(text, ...place);
      }
    }

    atomAt(x, y) {
      const under = this.turned.map((place, atom) => atom).filter((atom) => {
        const [a, b] = this.screen(this.turned[atom]);
        return Math.hypot(a - x, b - y) <= Math.max(6, this.size(atom) * this.scale);
      });
      return under.sort((a, b) => this.turned[b][2] - this.turned[a][2])[0];
    }
  }

  document.querySelectorAll("figure.viewer").forEach((figure) => new Viewer(figure));
})();
