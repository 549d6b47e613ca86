"use strict";

const unit = document.getElementById("confusion-unit");
unit?.addEventListener("click", () => {
  const pixels = unit.textContent === "show pixels";
  for (const cell of document.querySelectorAll("#confusion td")) {
    cell.textContent = pixels ? cell.dataset.count : cell.dataset.share;
  }
  unit.textContent = pixels ? "show per cent of the label" : "show pixels";
});

const enlarged = document.getElementById("enlarged");
for (const picture of document.querySelectorAll(".chips img")) {
  const open = () => {
    enlarged.querySelector("img").src = picture.src;
    enlarged.showModal();
  };
  picture.addEventListener("click", open);
  picture.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
}

/* A map: "scale" screen pixels to one of the finest level, whose left top corner lies at "left", "top". */
class TiledView {
  constructor(box, map) {
    this.box = box;
    this.levels = map.levels;
    this.finest = map.levels.at(-1);
    this.factor = map.factor;
    this.opacity = 0.7;
    this.shown = new Map();
    this.linked = [];
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      const frame = box.getBoundingClientRect();
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - frame.left, event.clientY - frame.top);
    }, { passive: false });
    box.addEventListener("pointerdown", (event) => {
      box.setPointerCapture(event.pointerId);
      this.held = [event.clientX - this.left, event.clientY - this.top];
    });
    box.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      [this.left, this.top] = [event.clientX - this.held[0], event.clientY - this.held[1]];
      this.move();
    });
    box.addEventListener("pointerup", () => { this.held = null; });
    box.addEventListener("pointercancel", () => { this.held = null; });
    box.addEventListener("keydown", (event) => {
      if (event.key === "+") this.zoom(1.5);
      if (event.key === "-") this.zoom(1 / 1.5);
    });
    new ResizeObserver(() => this.draw()).observe(box);
    this.fit();
  }

  /* Maps of one place show the same part of it. */
  move() {
    for (const view of [this, ...this.linked]) {
      /* One of them may hold fewer levels, so that its finest pixels are larger. */
      const scale = this.scale * view.factor / this.factor;
      [view.scale, view.left, view.top] = [scale, this.left, this.top];
      view.draw();
    }
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.box;
    this.scale = Math.min(width / this.finest.width, height / this.finest.height);
    this.left = (width - this.scale * this.finest.width) / 2;
    this.top = (height - this.scale * this.finest.height) / 2;
    this.move();
  }

  zoom(factor, x = this.box.clientWidth / 2, y = this.box.clientHeight / 2) {
    const scale = Math.min(32, Math.max(0.01, this.scale * factor));
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.move();
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  draw() {
    const finest = this.levels.length - 1;
    const wanted = finest + Math.ceil(Math.log2(this.scale));
    const number = Math.min(finest, Math.max(0, wanted));
    const level = this.levels[number];
    const pixel = this.scale * 2 ** (finest - number);
    const keep = new Set();
    for (const [place, tile] of Object.entries(level.tiles)) {
      const [row, column] = place.split("_").map(Number);
      const left = this.left + column * TILE * pixel;
      const top = this.top + row * TILE * pixel;
      const width = Math.min(TILE, level.width - column * TILE) * pixel;
      const height = Math.min(TILE, level.height - row * TILE) * pixel;
      if (left > this.box.clientWidth || top > this.box.clientHeight || left + width < 0 || top + height < 0) continue;
      for (const layer of ["scene", "classes"]) {
        if (!tile[layer]) continue;
        const key = `${number}/${place}/${layer}`;
        keep.add(key);
        if (!this.shown.has(key)) {
          const picture = new Image();
          picture.src = tile[layer];
          picture.className = layer;
          picture.style.zIndex = layer === "classes" ? 1 : 0;
          this.box.append(picture);
          this.shown.set(key, picture);
        }
        const style = this.shown.get(key).style;
        /* Whole screen pixels, so that no seams show between tiles. */
        style.left = `${Math.round(left)}px`;
        style.top = `${Math.round(top)}px`;
        style.width = `${Math.round(left + width) - Math.round(left)}px`;
        style.height = `${Math.round(top + height) - Math.round(top)}px`;
        if (layer === "classes") style.opacity = this.opacity;
      }
    }
    for (const [key, picture] of this.shown) {
      if (!keep.has(key)) {
        picture.remove();
        this.shown.delete(key);
      }
    }
    this.box.dataset.level = number;
  }
}

const tiles = document.getElementById("tiles");
if (tiles) {
  const maps = JSON.parse(tiles.textContent);
  for (const place of document.querySelectorAll(".place")) {
    const views = [...place.querySelectorAll(".map")].map((box) => new TiledView(box, maps[Number(box.dataset.number)]));
    for (const view of views) view.linked = views.filter((other) => other !== view);
    const [first] = views;
    place.querySelector(".zoom-in").addEventListener("click", () => first.zoom(1.5));
    place.querySelector(".zoom-out").addEventListener("click", () => first.zoom(1 / 1.5));
    place.querySelector(".fit").addEventListener("click", () => first.fit());
    place.querySelector(".opacity").addEventListener("input", (event) => {
      for (const view of views) view.setOpacity(event.target.value / 100);
    });
  }
}
