// The list of videos: which are shown, and in which order; rows are drawn as they come into view.
const BLOCK = 30;  // rows drawn at once
const rows = JSON.parse(document.getElementById('rows').textContent);
const list = document.getElementById('videos'), blank = document.getElementById('row');
const search = document.getElementById('search'), order = document.getElementById('order');
const kind = document.getElementById('kind'), shown = document.getElementById('shown');
const more = document.getElementById('more'), nothing = document.getElementById('nothing');
const chips = [...document.querySelectorAll('.chips button')];
const names = Object.fromEntries(chips.map(chip => [chip.value, chip.firstChild.textContent.trim()]));
const down = name => (a, b) => (b[name] ?? -1) - (a[name] ?? -1);
const byOrder = {
  label: () => 0, error: down('error'), high: down('score'), change: down('change'),
  low: (a, b) => a.score - b.score, id: (a, b) => a.order - b.order,
};
const drawn = new Map();  // row → its element
let fitting = [], count = 0;

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function link(text, address) {
  const element = make('a', '', text);
  element.href = address;
  return element;
}

function draw(row) {
  const article = blank.content.firstElementChild.cloneNode(true), part = name => article.querySelector(name);
  article.classList.add(row.label);
  article.dataset.id = row.id;
  part('h3').textContent = row.id;
  part('.kind').textContent = row.kind;
  for (const outcome of row.outcomes) {
    part('.badges').append(make('span', `badge ${outcome}`, names[outcome] ?? outcome));
  }
  const facts = [row.about, `peak ${row.score.toFixed(2)}` + (row.other_score === null ? '' : `, other ${row.other_score.toFixed(2)}`)];
  facts.push(`${(100 * row.flagged).toFixed(1)}% flagged`);
  if (row.error !== null) facts.push(`error ${(100 * row.error).toFixed(1)}%`);
  part('.about').append(facts.join(' · '), ' · ');
  if (row.unlike) part('.about').append(make('strong', '', `unlike the training videos (${row.unlike} times their distance)`), ' · ');
  part('.about').append(link('CSV', row.csv));
  part('.drawing').innerHTML = row.strip;  // numbers only, drawn by the program
  for (const [name, ticks] of [['time', row.times], ['tick', row.frames]]) {
    for (const [at, text] of ticks) {
      const label = make('span', name, text);
      label.style.left = `${at}%`;
      part('.plot').append(label);
    }
  }
  part('.plot').classList.toggle('timed', row.times.length > 0);
  article.timeline = new Timeline(row, article);
  addExtras(row, article);
  return article;
}

function addExtras(row, article) {
  const extra = article.querySelector('.extra'), timeline = article.timeline;
  if (row.player) {
    const stage = make('div', 'stage'), play = make('button', 'play', 'Play with heatmap');
    play.onclick = () => { timeline.toggle(); timeline.box.focus(); };
    const failed = make('p', 'failed soft', 'This browser cannot play the video.');
    failed.hidden = true;
    stage.append(play, failed);
    extra.append(stage);
  }
  if (row.events.length) {
    const details = make('details', 'events'), events = make('ol');
    details.append(make('summary', '', `${row.events.length} event${row.events.length > 1 ? 's' : ''}`), events);
    for (const [place, when, score, isTrue, clip] of row.events) {
      const item = make('li'), go = make('button', '', when);
      go.onclick = () => timeline.seek(place);
      item.append(go, ` peak ${score.toFixed(2)}`);
      if (isTrue !== null) item.append(' ', make('span', `badge ${isTrue ? 'detected' : 'false-alarm'}`, isTrue ? 'anomaly' : 'false alarm'));
      if (clip) item.append(' ', link('clip', clip));
      events.append(item);
    }
    extra.append(details);
  }
  if (row.pictures.length) {
    const pictures = make('div', 'pictures');
    for (const address of row.pictures) {
      const anchor = link('', address), image = make('img');
      Object.assign(image, {loading: 'lazy', alt: `Heatmap of ${row.id}`, src: address});
      anchor.append(image);
      pictures.append(anchor);
    }
    extra.append(pictures);
  }
}

function drawMore() {
  for (const row of fitting.slice(count, count + BLOCK)) {
    if (!drawn.has(row)) drawn.set(row, draw(row));
    const article = drawn.get(row);
    article.setAttribute('aria-setsize', fitting.length);
    article.setAttribute('aria-posinset', ++count);
    list.append(article);
  }
  more.hidden = count >= fitting.length;
}

function refresh() {
  const outcome = chips.find(chip => chip.getAttribute('aria-pressed') === 'true')?.value;
  const text = search.value.trim().toLowerCase(), wanted = kind?.value ?? '', colon = wanted.indexOf(':');
  const name = wanted.slice(0, colon), value = wanted.slice(colon + 1);
  fitting = rows.filter(row => (!outcome || row.outcomes.includes(outcome)) && (!wanted || row[name] === value)
    && row.id.toLowerCase().includes(text)).sort(byOrder[order.value]);
  for (const video of list.querySelectorAll('video')) video.pause();
  list.replaceChildren();
  count = 0;
  drawMore();
  shown.textContent = `${fitting.length.toLocaleString('en')} of ${rows.length.toLocaleString('en')} videos`;
  nothing.hidden = fitting.length > 0;
}

for (const chip of chips) chip.onclick = () => {
  for (const other of chips) other.setAttribute('aria-pressed', other === chip);
  refresh();
};
search.oninput = order.onchange = refresh;
if (kind) kind.onchange = refresh;
more.onclick = () => { const next = count; drawMore(); list.children[next]?.focus(); };
const nearing = new IntersectionObserver(entries => {
  if (!entries.at(-1).isIntersecting) return;
  drawMore();
  nearing.unobserve(more);
  nearing.observe(more);  // tells again if still near
}, {rootMargin: '1500px'});
nearing.observe(more);
addEventListener('beforeprint', () => { while (count < Math.min(fitting.length, 500)) drawMore(); });
document.querySelector('.tools').hidden = false;
refresh();
