// One video's timeline: what lies under the pointer, and the player that follows it.
const clock = seconds => {
  const whole = Math.floor(seconds), two = number => String(number).padStart(2, '0');
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

class Timeline {
  constructor(row, article) {
    Object.assign(this, {row, article, place: 0, video: null, lines: {}});
    this.box = article.querySelector('.box');
    this.cursor = article.querySelector('.cursor');
    this.readout = article.querySelector('.readout');
    this.box.setAttribute('aria-valuemax', row.width);
    this.box.setAttribute('aria-label', `Position in ${row.id}`);
    this.tell();
    this.box.onpointermove = event => this.point(this.placeOf(event));
    this.box.onpointerleave = () => this.rest();
    this.box.onfocus = () => this.point(this.place);
    this.box.onblur = () => this.rest();
    this.box.onclick = event => this.seek(this.placeOf(event));
    this.box.onkeydown = event => this.press(event);
  }

  placeOf(event) {
    const {left, width} = this.box.getBoundingClientRect();
    return clamp(Math.floor((event.clientX - left) / width * this.row.width), 0, this.row.width - 1);
  }

  // The seconds of a place and back. Where the rate of frames is not known, the player's length tells.
  get step() { return this.row.step ?? (this.video?.duration ? this.video.duration / this.row.width : null); }

  frameAt(place) {  // frames need not be evenly spaced
    this.knots ??= this.row.knots.split(' ').filter(Boolean).map(knot => knot.split(':').map(Number));
    const after = this.knots.findIndex(knot => place < knot[0]);
    if (after < 1) return place;
    const [[x0, frame0], [x1, frame1]] = [this.knots[after - 1], this.knots[after]];
    return frame0 + Math.floor((frame1 - frame0) * (place - x0) / (x1 - x0));
  }

  stepsOf(line) {
    const steps = [], path = this.box.querySelector(`path.${line}`);
    let start = 0;
    for (const [, from, height, stop] of path?.getAttribute('d').matchAll(/M(\d+) \d+|V(\d+)H(\d+)/g) ?? []) {
      if (from === undefined) steps.push({start, stop: +stop, score: 1 - height / 1000});
      start = +(from ?? stop);
    }
    return steps;
  }

  scoreAt(place, line) {  // null in a pause
    this.lines[line] ??= this.stepsOf(line);
    return this.lines[line].find(step => step.start <= place && place < step.stop)?.score ?? null;
  }

  describe(place) {
    const time = this.step ? ` (${clock(place * this.step)})` : '', score = this.scoreAt(place, 'score');
    if (score === null) return `no recording${time}`;
    const other = this.scoreAt(place, 'other');
    const scores = score.toFixed(2) + (other === null ? '' : `, other ${other.toFixed(2)}`);
    return `frame ${this.frameAt(place).toLocaleString('en')}${time} score ${scores}`;
  }

  point(place) {
    this.readout.textContent = this.describe(place);
    this.readout.hidden = false;
    const {clientWidth: room} = this.box, {offsetWidth: width} = this.readout, at = place / this.row.width * room;
    this.readout.style.left = `${clamp(at < room / 2 ? at + 8 : at - width - 8, 2, Math.max(2, room - width - 2))}px`;
    if (!this.video) this.draw(place);
  }

  rest() {
    this.readout.hidden = true;
    if (!this.video) this.cursor.hidden = true;
  }

  draw(place) {
    this.cursor.style.left = `${place / this.row.width * 100}%`;
    this.cursor.hidden = false;
  }

  tell() {
    this.box.setAttribute('aria-valuenow', Math.round(this.place));
    this.box.setAttribute('aria-valuetext', this.describe(Math.floor(this.place)));
  }

  move(place) {
    this.place = clamp(place, 0, this.row.width - 1);
    this.draw(this.place);
    this.tell();
  }

  seek(place) {
    this.move(place);
    this.point(this.place);
    if (!this.row.player) return;
    this.open();
    const go = () => { this.video.currentTime = Math.min(this.place * this.step + .001, this.video.duration || Infinity); };
    if (this.video.readyState) go();
    else this.video.addEventListener('loadedmetadata', go, {once: true});
  }

  moveBy(count) {
    const {snippet, width} = this.row;
    const at = (this.place + 1e-6) / snippet;  // the player's seconds are not exact
    const next = count > 0 ? Math.floor(at) + 1 : Math.ceil(at - 2e-2) - 1;
    this.seek(clamp(next * snippet, 0, width - 1));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowRight: () => this.moveBy(1), ArrowLeft: () => this.moveBy(-1),
      Home: () => this.seek(0), End: () => this.seek(this.row.width - 1),
      ' ': () => this.toggle(), Enter: () => this.seek(this.place),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  toggle() {
    if (!this.row.player) return;
    this.open();
    if (this.video.paused) this.video.play(); else this.video.pause();
  }

  open() {
    if (this.video) return;
    const video = this.video = document.createElement('video');
    video.controls = video.playsInline = video.muted = true;
    video.preload = 'auto';
    video.setAttribute('aria-label', `${this.row.id} with its heatmap`);
    if (this.row.pictures.length) video.poster = this.row.pictures[0];
    video.src = this.row.player;
    video.addEventListener('keydown', event => this.press(event), true);
    video.onplay = () => {
      for (const other of document.querySelectorAll('video')) if (other !== video) other.pause();
      this.follow();
    };
    video.ontimeupdate = video.onseeked = () => this.sync();
    video.onerror = () => this.box.closest('article').querySelector('.failed')?.removeAttribute('hidden');
    this.article.querySelector('.stage').prepend(video);
    this.article.classList.add('open');
    for (const part of this.article.querySelectorAll('details.events')) part.open = true;
  }

  sync() {
    if (!this.step || this.video.seeking) return;
    this.move(this.video.currentTime / this.step);
    if (document.activeElement === this.box) this.point(Math.floor(this.place));
  }

  follow() {  // frame by frame, or by the player's own few updates a second
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    const next = () => { this.sync(); if (!this.video.paused && !this.video.ended) requestAnimationFrame(next); };
    requestAnimationFrame(next);
  }
}
