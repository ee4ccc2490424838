// Filtering, sorting and the score under the pointer. Without it the page shows every video, abnormal ones first.
const list = document.getElementById('videos'), search = document.getElementById('search');
const order = document.getElementById('order'), shown = document.getElementById('shown');
const buttons = [...document.querySelectorAll('.tools button')], nothing = document.getElementById('nothing');
const videos = [...list.children], place = new Map(videos.map((video, index) => [video, index]));
const byOrder = {
  label: (a, b) => place.get(a) - place.get(b),
  high: (a, b) => b.dataset.score - a.dataset.score,
  low: (a, b) => a.dataset.score - b.dataset.score,
  id: (a, b) => a.dataset.id.localeCompare(b.dataset.id, 'en', {numeric: true}),
};
function refresh() {
  const kind = buttons.find(button => button.getAttribute('aria-pressed') === 'true')?.value;  // no buttons: all
  const text = search.value.trim().toLowerCase();
  let count = 0;
  for (const video of videos) {
    const fits = (!kind || video.classList.contains(kind)) && video.dataset.id.toLowerCase().includes(text);
    video.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${videos.length} videos`;
  nothing.hidden = count > 0;
}
for (const button of buttons) button.onclick = () => {
  for (const other of buttons) other.setAttribute('aria-pressed', other === button);
  refresh();
};
search.oninput = refresh;
order.onchange = () => list.append(...videos.slice().sort(byOrder[order.value]));
document.querySelector('.tools').hidden = false;
refresh();

const cursor = document.createElement('div'), readout = document.createElement('div');
cursor.className = 'cursor'; readout.className = 'readout';
const frameAt = (box, place) => {  // frames need not be evenly spaced
  const knots = (box.dataset.knots ?? '').split(' ').filter(Boolean).map(knot => knot.split(':').map(Number));
  const after = knots.findIndex(knot => place < knot[0]);
  if (after < 1) return place;
  const [[x0, frame0], [x1, frame1]] = [knots[after - 1], knots[after]];
  return frame0 + Math.floor((frame1 - frame0) * (place - x0) / (x1 - x0));
};
const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
list.addEventListener('pointermove', event => {
  const box = event.target.closest('.box');
  if (!box) { cursor.remove(); readout.remove(); return; }
  const {left, width} = box.getBoundingClientRect(), svg = box.firstElementChild;
  const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
  const places = svg.viewBox.baseVal.width, place = Math.min(Math.floor(share * places), places - 1);
  const steps = [...svg.querySelector('.score').getAttribute('d').matchAll(/V(\d+)H(\d+)/g)];
  const height = steps.find(step => place < step[2])[1], fps = box.dataset.fps;
  const pauses = [...svg.querySelectorAll('.pause')].map(pause => [+pause.getAttribute('x'), +pause.getAttribute('width')]);
  const isPaused = pauses.some(([start, width]) => start <= place && place < start + width);
  const time = fps ? ` (${clock(place / fps)})` : '';
  readout.textContent = isPaused ? `no recording${time}`
    : `frame ${frameAt(box, place).toLocaleString('en')}${time} score ${(1 - height / 1000).toFixed(2)}`;
  cursor.style.left = `${share * 100}%`;
  readout.style.left = share < .5 ? `calc(${share * 100}% + 8px)` : '';
  readout.style.right = share < .5 ? '' : `calc(${(1 - share) * 100}% + 8px)`;
  box.append(cursor, readout);
});
list.addEventListener('pointerleave', () => { cursor.remove(); readout.remove(); });
