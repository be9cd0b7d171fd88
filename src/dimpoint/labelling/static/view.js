// The canvas: zoom, pan, marks, and where the pointer is in the frame's pixels.

export class View {
  constructor(canvas, loupe) {
    this.canvas = canvas;
    this.loupe = loupe;
    this.image = { width: 1, height: 1, levels: [] }; // as image.js prepares it
    this.tone = null;
    this.buffer = document.createElement("canvas"); // the visible part, one pixel for each of its level
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.cursor = null;
    this.marks = { points: [], proposals: [], rejected: [], regions: [], selected: -1, drag: null };
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  resize() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (!this.moved) this.fit();
    this.draw();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.scale = Math.min(width / this.image.width, height / this.image.height) * 0.98;
    this.left = (width - this.image.width * this.scale) / 2;
    this.top = (height - this.image.height * this.scale) / 2;
    this.moved = false;
  }

  // Put a place of the frame into the middle, magnified so that its surroundings are seen.
  look(place) {
    this.scale = Math.max(this.scale, 6);
    this.left = this.canvas.clientWidth / 2 - (place.x + 0.5) * this.scale;
    this.top = this.canvas.clientHeight / 2 - (place.y + 0.5) * this.scale;
    this.moved = true;
    this.cursor = place;
    this.draw();
  }

  // Frame pixels; the centre of the top-left pixel is (0, 0).
  toFrame(x, y) {
    return { x: (x - this.left) / this.scale - 0.5, y: (y - this.top) / this.scale - 0.5 };
  }

  toScreen({ x, y }) {
    return { x: (x + 0.5) * this.scale + this.left, y: (y + 0.5) * this.scale + this.top };
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(60, Math.max(0.05, this.scale * factor));
    this.left = x - (x - this.left) * (scale / this.scale);
    this.top = y - (y - this.top) * (scale / this.scale);
    this.scale = scale;
    this.moved = true;
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.moved = true;
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = null;
      this.paint();
    });
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    if (this.tone) this.paintImage(context, ratio);
    this.paintMarks(context);
    this.paintLoupe();
  }

  // Only what is visible is mapped, from the coarsest level that has a pixel for each one of the screen.
  paintImage(context, ratio) {
    const { levels } = this.image;
    const wanted = Math.floor(Math.log2(1 / (this.scale * ratio)));
    let chosen = Math.min(Math.max(wanted, 0), levels.length - 1);
    while (!levels[chosen].counts) chosen += 1; // on its way
    const level = levels[chosen], size = this.scale * 2 ** chosen; // of a pixel of the level, on the screen
    const left = Math.max(0, Math.floor(-this.left / size)), top = Math.max(0, Math.floor(-this.top / size));
    const across = Math.min(level.width, Math.ceil((this.canvas.clientWidth - this.left) / size)) - left;
    const down = Math.min(level.height, Math.ceil((this.canvas.clientHeight - this.top) / size)) - top;
    if (across < 1 || down < 1) return;
    this.map(level, { left, top, across, down });
    context.imageSmoothingEnabled = size * ratio < 1;
    context.drawImage(this.buffer, 0, 0, across, down, this.left + left * size, this.top + top * size, across * size, down * size);
  }

  // Map a part of a level into the buffer.
  map(level, part) {
    if (this.buffer.width < part.across) this.buffer.width = part.across;
    if (this.buffer.height < part.down) this.buffer.height = part.down;
    const pixels = this.tone.pixels(level, part);
    this.buffer.getContext("2d").putImageData(new ImageData(pixels, part.across, part.down), 0, 0);
  }

  paintMarks(context) {
    const { points, proposals, rejected, regions, selected, drag } = this.marks;
    context.lineWidth = 1.5;
    for (const region of drag ? [...regions, drag] : regions) this.box(context, region);
    for (const { x, y } of rejected) this.cross(context, { x, y }, "#8c96a0");
    for (const { x, y, score } of proposals) {
      const at = this.toScreen({ x, y });
      context.strokeStyle = "#ffb02e";
      context.setLineDash([4, 3]);
      context.strokeRect(at.x - 10, at.y - 10, 20, 20);
      context.setLineDash([]);
      context.font = "600 11px system-ui";
      context.strokeStyle = "rgb(0 0 0 / .75)"; // readable on white and on black
      context.lineWidth = 3;
      context.strokeText(score.toFixed(2), at.x + 13, at.y + 4);
      context.lineWidth = 1.5;
      context.fillStyle = "#ffb02e";
      context.fillText(score.toFixed(2), at.x + 13, at.y + 4);
    }
    points.forEach((point, index) => {
      const at = this.toScreen(point);
      const chosen = index === selected;
      context.strokeStyle = chosen ? "#4da3ff" : "#39d98a";
      context.lineWidth = chosen ? 2 : 1.5;
      context.beginPath();
      context.arc(at.x, at.y, 11, 0, 7);
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(at.x + dx * 11, at.y + dy * 11);
        context.lineTo(at.x + dx * 17, at.y + dy * 17);
      }
      context.stroke();
    });
    if (this.cursor) this.crosshair(context, this.toScreen(this.cursor));
  }

  box(context, [left, top, right, bottom]) {
    const a = this.toScreen({ x: left, y: top });
    const b = this.toScreen({ x: right, y: bottom });
    context.fillStyle = "rgb(140 150 160 / .22)";
    context.strokeStyle = "#98a1ab";
    context.fillRect(a.x, a.y, b.x - a.x, b.y - a.y);
    context.strokeRect(a.x, a.y, b.x - a.x, b.y - a.y);
  }

  cross(context, point, colour) {
    const at = this.toScreen(point);
    context.strokeStyle = colour;
    context.beginPath();
    for (const sign of [1, -1]) {
      context.moveTo(at.x - 6, at.y - 6 * sign);
      context.lineTo(at.x + 6, at.y + 6 * sign);
    }
    context.stroke();
  }

  crosshair(context, at) {
    context.strokeStyle = "rgb(255 255 255 / .3)";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, at.y);
    context.lineTo(at.x - 16, at.y);
    context.moveTo(at.x + 16, at.y);
    context.lineTo(this.canvas.clientWidth, at.y);
    context.moveTo(at.x, 0);
    context.lineTo(at.x, at.y - 16);
    context.moveTo(at.x, at.y + 16);
    context.lineTo(at.x, this.canvas.clientHeight);
    context.stroke();
  }

  paintLoupe() {
    const context = this.loupe.getContext("2d");
    const { width } = this.loupe;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, width);
    this.loupe.hidden = !this.cursor;
    if (!this.cursor) return;
    const at = this.toScreen(this.cursor); // out of the way of what it shows
    this.loupe.classList.toggle("left", at.x > this.canvas.clientWidth / 2 && at.y > this.canvas.clientHeight / 2);
    const pixels = 21, size = width / pixels;
    const left = Math.round(this.cursor.x) - 10, top = Math.round(this.cursor.y) - 10;
    const from = { left: Math.max(0, left), top: Math.max(0, top) };
    const across = Math.min(this.image.width, left + pixels) - from.left, down = Math.min(this.image.height, top + pixels) - from.top;
    if (this.tone && this.image.counts && across > 0 && down > 0) {
      this.map(this.image.levels[0], { ...from, across, down });
      context.imageSmoothingEnabled = false;
      const place = [(from.left - left) * size, (from.top - top) * size, across * size, down * size];
      context.drawImage(this.buffer, 0, 0, across, down, ...place);
    }
    context.strokeStyle = "#39d98a";
    for (const { x, y } of this.marks.points) {
      context.beginPath();
      context.arc((x - left + 0.5) * size, (y - top + 0.5) * size, 5, 0, 7);
      context.stroke();
    }
    context.strokeStyle = "rgb(255 255 255 / .7)";
    context.strokeRect(10 * size, 10 * size, size, size);
  }
}
