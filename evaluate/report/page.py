"""How the report looks and moves: one HTML page that needs nothing but itself."""

from __future__ import annotations

from html import escape

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1b1e23; --soft: #5c626b; --faint: #e4e5e2; --wash: #f2f3f1;
  --score: #2458c9; --score-fill: rgba(36, 88, 201, .10); --truth: rgba(226, 105, 28, .20); --truth-ink: #b3470a;
  --calm: #2d7a55; --note: #fdf5e3; --note-edge: #e2c275;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121417; --card: #191c20; --ink: #e6e8eb; --soft: #9aa1ab; --faint: #2c3036; --wash: #20242a;
    --score: #86b0ff; --score-fill: rgba(134, 176, 255, .13); --truth: rgba(255, 146, 66, .24);
    --truth-ink: #ffab70; --calm: #79cfa2; --note: #2a2417; --note-edge: #6d5a2a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 96px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 2px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 52px 0 14px; letter-spacing: -.005em; }
p { margin: 0; } a { color: var(--score); }
.soft, figcaption, .facts dt, th { color: var(--soft); }
.number, td.value, .readout, .facts dd, .time { font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--faint); border-radius: 10px; }
.headline { display: grid; grid-template-columns: minmax(0, auto) minmax(0, 1fr); gap: 36px; align-items: center;
  padding: 26px 30px; margin-top: 26px; }
.headline .number { font-size: 58px; font-weight: 650; line-height: 1; letter-spacing: -.03em;
  white-space: nowrap; }
.headline .number small { font-size: 26px; font-weight: 500; margin-left: .15em; }
.headline .name { color: var(--soft); margin-top: 8px; }
.headline p + p { margin-top: 6px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 14px 28px;
  margin: 22px 0 0; }
.facts dt { font-size: 13px; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.note { background: var(--note); border: 1px solid var(--note-edge); border-radius: 10px; padding: 12px 18px;
  margin-top: 20px; }
.note summary { cursor: pointer; font-weight: 600; } .note ul { margin: 8px 0 2px; padding-left: 20px; }
.note li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { font-weight: 500; font-size: 13px; text-align: left; }
th, td { padding: 9px 14px; border-bottom: 1px solid var(--faint); vertical-align: baseline; }
tr:last-child td { border-bottom: 0; }
td.value, th.value { text-align: right; white-space: nowrap; } td.value { font-weight: 600; }
td.name { white-space: nowrap; } td.text { min-width: 210px; }
code { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.none, td.value.none { color: var(--soft); font-weight: 400; }
.meter { position: relative; display: block; width: 100%; min-width: 110px; height: 8px; border-radius: 4px;
  background: var(--wash); }
.meter i { display: block; height: 100%; border-radius: 4px; background: var(--score); }
.meter::after { content: ""; position: absolute; left: 50%; top: -3px; bottom: -3px;
  border-left: 1px dashed var(--soft); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; }
.pair figure { margin: 0; padding: 18px 20px 14px; } .pair figcaption { margin-top: 6px; font-size: 13.5px; }
svg { display: block; overflow: visible; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg path { vector-effect: non-scaling-stroke; fill: none; }
.square { width: 100%; max-width: 430px; margin: 0 auto; } .grid { stroke: var(--faint); }
.line { stroke: var(--score); stroke-width: 2; stroke-linejoin: round; }
.threshold { stroke: var(--soft); stroke-dasharray: 4 4; opacity: .75; }
.tools { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: center;
  padding: 12px 0; background: var(--paper); }
.tools input, .tools select { font: inherit; color: inherit; background: var(--card); padding: 5px 10px;
  border: 1px solid var(--faint); border-radius: 7px; } .tools input { flex: 1 1 200px; max-width: 320px; }
.tools button { font: inherit; color: var(--soft); background: none; border: 0; padding: 5px 12px; border-radius: 7px;
  cursor: pointer; } .tools button[aria-pressed=true] { background: var(--wash); color: var(--ink); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 13px; color: var(--soft); margin: 0 0 12px; }
.legend [class]::before { content: ""; display: inline-block; width: 22px; height: 11px; margin-right: 7px; }
.legend .is-score::before { height: 0; border-top: 2px solid var(--score); vertical-align: 4px; }
.legend .is-truth::before { background: var(--truth); border-top: 3px solid var(--truth-ink); vertical-align: -2px; }
.legend .is-threshold::before { height: 0; border-top: 1px dashed var(--soft); vertical-align: 4px; }
.video { padding: 14px 20px 12px; margin-bottom: 12px; content-visibility: auto; contain-intrinsic-size: auto 176px; }
.video header { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; margin-bottom: 12px; }
.video h3 { font: 600 14px ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 0; overflow-wrap: anywhere; }
.video .kind { font-size: 13px; color: var(--calm); } .video.abnormal .kind { color: var(--truth-ink); }
.video .about { font-size: 13px; color: var(--soft); margin-left: auto; }
.plot { position: relative; margin: 0 6px 0 24px; padding-bottom: 20px; font-size: 11.5px; color: var(--soft); }
.plot.timed { padding-top: 21px; } .plot .tick { position: absolute; bottom: 0; transform: translateX(-50%); }
.plot .time { position: absolute; top: 0; transform: translateX(-50%); }
.plot .box { position: relative; height: 84px; border-left: 1px solid var(--faint);
  border-bottom: 1px solid var(--soft); touch-action: pan-y; }
.plot .box::before, .plot .box::after { position: absolute; right: 100%; margin-right: 6px; line-height: 1; }
.plot .box::before { content: "1"; top: 0; } .plot .box::after { content: "0"; bottom: 0; }
.strip { width: 100%; height: 100%; }
.strip .score { stroke: var(--score); stroke-width: 1.5; fill: var(--score-fill); }
.truth { fill: var(--truth); } .strip .truth-edge { stroke: var(--truth-ink); stroke-width: 3; }
.cursor { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--ink); opacity: .5;
  pointer-events: none; }
.readout { position: absolute; top: 5px; padding: 1px 7px; border-radius: 5px; background: var(--ink);
  color: var(--paper); white-space: nowrap; pointer-events: none; }
.overlays { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 10px;
  margin: 14px 0 6px; }
.overlays img { display: block; width: 100%; border-radius: 6px; background: var(--wash); }
.nothing { padding: 26px; text-align: center; color: var(--soft); }
[hidden] { display: none !important; }
@media (max-width: 640px) {
  main { padding: 26px 16px 60px; } .headline { grid-template-columns: 1fr; gap: 16px; padding: 20px; }
  .video .about { margin-left: 0; }
}
@media print { .tools { display: none; } .video { break-inside: avoid; content-visibility: visible; } }
"""

# Filtering, sorting and the score under the pointer. Without it the page shows every video, abnormal ones first.
SCRIPT = """
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
  const kind = buttons.find(button => button.getAttribute('aria-pressed') === 'true').value;
  const text = search.value.trim().toLowerCase();
  let count = 0;
  for (const video of videos) {
    const fits = (!kind || video.classList.contains(kind)) && video.dataset.id.toLowerCase().includes(text);
    video.hidden = !fits;
    count += fits;
  }
  shown.textContent = count === videos.length ? `${count} videos` : `${count} of ${videos.length} videos`;
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
const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
list.addEventListener('pointermove', event => {
  const box = event.target.closest('.box');
  if (!box) { cursor.remove(); readout.remove(); return; }
  const {left, width} = box.getBoundingClientRect(), svg = box.firstElementChild;
  const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
  const frames = svg.viewBox.baseVal.width, frame = Math.min(Math.floor(share * frames), frames - 1);
  const steps = [...svg.querySelector('.score').getAttribute('d').matchAll(/V(\\d+)H(\\d+)/g)];
  const height = steps.find(step => frame < step[2])[1], fps = box.dataset.fps;
  readout.textContent = `frame ${frame.toLocaleString('en')}${fps ? ` (${clock(frame / fps)})` : ''} `
    + `score ${(1 - height / 1000).toFixed(2)}`;
  cursor.style.left = `${share * 100}%`;
  readout.style.left = share < .5 ? `calc(${share * 100}% + 8px)` : '';
  readout.style.right = share < .5 ? '' : `calc(${(1 - share) * 100}% + 8px)`;
  box.append(cursor, readout);
});
list.addEventListener('pointerleave', () => { cursor.remove(); readout.remove(); });
"""


def page(title: str, body: str) -> str:
    """A whole HTML document around `body`, which is HTML already; `title` is plain text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
