// The timeline of a stream: what the archive holds, beneath it what the card holds, from a month to a second.
//
// It draws what it is given and tells what the person does: it asks the server nothing.

import { drawing, element, show } from './dom.js';
import { listen } from './gestures.js';
import { explained, stateOf } from './states.js';
import { DAY, SECOND, asText, clockOf, dayOf, instantOf, lengthOf, marks, parse } from './time.js';

const HEIGHT = 116;
const AXIS = 26;
const ARCHIVE = { y: 32, height: 40 };
const CARD = { y: 80, height: 20 };
export const SHORTEST = 2 * SECOND;
export const LONGEST = 400 * DAY;

/**
 * `hooks`: `look(from, to)` when another window is wanted, `play(instant)`, `select(from, to)`.
 */
export class Timeline {
  constructor(host, hooks) {
    this.hooks = hooks;
    this.from = 0;
    this.to = 1;
    this.stretches = [];
    this.held = [];
    this.selection = null;
    this.playing = null;
    this.svg = drawing('svg', {
      class: 'timeline', tabindex: 0, role: 'application', preserveAspectRatio: 'none',
      'aria-label': 'Timeline. Arrow keys move, plus and minus zoom, Enter plays, S marks the beginning and the end of a selection.',
    });
    this.tip = element('p', { class: 'tip', 'aria-hidden': 'true' }, ' ');
    this.heard = element('p', { class: 'heard', 'aria-live': 'polite' });
    show(host, this.svg, this.tip, this.heard);
    this.cursor = null;
    listen(this);
    this.svg.addEventListener('keydown', (event) => this.press(event));
    this.resizing = new ResizeObserver(() => this.draw());
    this.resizing.observe(this.svg);
  }

  /** The window that is shown. */
  window(from, to) {
    this.from = from;
    this.to = to;
    this.draw();
  }

  /** What the server has told of a window: stretches, and what the card holds. */
  tell(stretches, held) {
    this.stretches = stretches;
    this.held = held;
    this.draw();
  }

  select(from, to) {
    this.selection = from === null ? null : [Math.min(from, to), Math.max(from, to)];
    this.draw();
  }

  at(instant) {
    this.playing = instant;
    this.drawPlayhead();
  }

  get width() {
    return this.svg.clientWidth || 800;
  }

  x(instant) {
    return ((instant - this.from) / (this.to - this.from)) * this.width;
  }

  instant(x) {
    return this.from + (Math.min(Math.max(x, 0), this.width) / this.width) * (this.to - this.from);
  }

  draw() {
    const width = this.width;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const bar = (lane, range, attributes) => {
      const left = Math.max(this.x(parse(range.from)), -2);
      const right = Math.min(this.x(parse(range.to)), width + 2);
      if (right <= 0 || left >= width) return null;
      return drawing('rect', { x: left, y: lane.y, width: Math.max(right - left, 1), height: lane.height, ...attributes });
    };
    const stretch = (it) => bar(ARCHIVE, it, { class: 'stretch', 'data-state': stateOf(it), fill: `url(#fill-${stateOf(it)})` });
    const axis = marks(this.from, this.to, Math.max(2, Math.floor(width / 90)));
    show(this.svg,
      drawing('rect', { class: 'lane', x: 0, width, ...ARCHIVE }),
      drawing('rect', { class: 'lane', x: 0, width, ...CARD }),
      axis.map(([at, label, isDay]) => [
        drawing('path', { class: isDay ? 'mark day' : 'mark', d: `M${this.x(at)} ${AXIS - 6}V${HEIGHT - 12}` }),
        drawing('text', { class: isDay ? 'label day' : 'label', x: this.x(at) + 3, y: 14 }, label),
      ]),
      this.stretches.map(stretch),
      this.held.map((range) => bar(CARD, range, { class: 'held', fill: 'url(#fill-held)' })),
      drawing('text', { class: 'lane-name', x: 4, y: ARCHIVE.y + 12 }, 'archive'),
      drawing('text', { class: 'lane-name', x: 4, y: CARD.y + 12 }, 'card'),
      this.drawSelection());
    this.head = drawing('path', { class: 'playhead' });
    this.mark = drawing('path', { class: 'cursor' });
    this.svg.append(this.head, this.mark);
    this.drawPlayhead();
    this.drawCursor();
  }

  drawSelection() {
    if (!this.selection) return null;
    const [from, to] = this.selection.map((instant) => this.x(instant));
    return drawing('rect', { class: 'selection', x: from, y: AXIS, width: Math.max(to - from, 1), height: HEIGHT - AXIS - 10 });
  }

  drawPlayhead() {
    if (!this.head) return;
    const shown = this.playing !== null && this.playing >= this.from && this.playing <= this.to;
    this.head.setAttribute('d', shown ? `M${this.x(this.playing)} ${AXIS}V${HEIGHT - 8}` : '');
  }

  drawCursor() {
    const shown = this.cursor !== null && this.cursor >= this.from && this.cursor <= this.to;
    this.mark.setAttribute('d', shown ? `M${this.x(this.cursor)} ${AXIS}V${HEIGHT - 8}` : '');
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (this.to - this.from) / (event.shiftKey ? 100 : 20);
    const cursor = this.cursor ?? this.playing ?? (this.from + this.to) / 2;
    const deeds = {
      ArrowLeft: () => this.move(cursor - step),
      ArrowRight: () => this.move(cursor + step),
      PageUp: () => this.pan(-0.8),
      PageDown: () => this.pan(0.8),
      '+': () => this.zoom(0.5, cursor),
      '=': () => this.zoom(0.5, cursor),
      '-': () => this.zoom(2, cursor),
      Enter: () => this.hooks.play(cursor),
      s: () => this.markAt(cursor),
      Escape: () => { this.marked = null; this.select(null); this.hooks.select(null, null); },
      Home: () => this.hooks.look(null, null),
    };
    const wanted = deeds[event.key] ?? deeds[event.key.toLowerCase()];
    if (!wanted) return;
    event.preventDefault();
    wanted();
  }

  /** The keyboard's pointer. */
  move(instant) {
    this.cursor = instant;
    if (instant < this.from || instant > this.to) this.pan(instant < this.from ? -0.5 : 0.5);
    this.point(instant);
    this.drawCursor();
    const stretch = this.stretchAt(instant);
    this.heard.textContent = `${instantOf(instant)}: ${stretch ? explained(stretch) : 'not expected'}`;
  }

  /** The first press marks the beginning, the second the end. */
  markAt(instant) {
    this.cursor = instant;
    if (this.marked === null || this.marked === undefined) {
      this.marked = instant;
      this.select(instant, instant);
      this.heard.textContent = 'beginning marked: move on, and press S at the end';
      return;
    }
    const [from, to] = [Math.min(this.marked, instant), Math.max(this.marked, instant)];
    this.marked = null;
    this.select(from, to);
    this.hooks.select(from, to);
  }

  stretchAt(instant) {
    return this.stretches.find((stretch) => parse(stretch.from) <= instant && instant < parse(stretch.to));
  }

  /** Tells what is there, above the timeline; nothing where `instant` is null. */
  point(instant) {
    if (instant === null) {
      this.tip.textContent = ' ';
      return;
    }
    const stretch = this.stretchAt(instant);
    const onCard = this.held.some((range) => parse(range.from) <= instant && instant < parse(range.to));
    const millis = this.to - this.from < 60 * SECOND;
    const of = stretch ? `${explained(stretch)} (${clockOf(parse(stretch.from))} to ${clockOf(parse(stretch.to))}, ${
      lengthOf((parse(stretch.to) - parse(stretch.from)) / 1000)})` : 'not expected';
    this.tip.textContent = `${dayOf(instant)} ${clockOf(instant, { millis })}  ·  ${of}  ·  ${onCard ? 'on the card' : 'not on the card'}`;
  }

  pan(share) {
    const by = share * (this.to - this.from);
    this.look(this.from + by, this.to + by);
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    const length = Math.min(Math.max((this.to - this.from) * factor, SHORTEST), LONGEST);
    const left = ((around - this.from) / (this.to - this.from)) * length;
    this.look(around - left, around - left + length);
  }

  /** Two fingers: what lay between them in `window` still does. */
  stretch([from, to], before, now) {
    const length = Math.min(Math.max((to - from) * (before.apart / now.apart), SHORTEST), LONGEST);
    const around = from + (before.middle / this.width) * (to - from);
    const left = (now.middle / this.width) * length;
    this.look(around - left, around - left + length);
  }

  look(from, to) {
    this.window(from, to);
    this.hooks.look(from, to);
  }
}

/** A strip without any handling, for lists. */
export function strip(stretches, from, to) {
  const length = to - from;
  const bar = (stretch) => {
    const left = Math.max(parse(stretch.from) - from, 0) / length;
    const right = Math.min(parse(stretch.to) - from, length) / length;
    if (right <= left) return null;
    return drawing('rect', { x: left * 1000, width: Math.max((right - left) * 1000, 2), height: 16, fill: `url(#fill-${stateOf(stretch)})` });
  };
  return drawing('svg', { class: 'strip', viewBox: '0 0 1000 16', preserveAspectRatio: 'none', role: 'img',
    'aria-label': `${asText(from)} to ${asText(to)}: ${summary(stretches)}` }, stretches.map(bar));
}

function summary(stretches) {
  const seconds = {};
  for (const stretch of stretches) seconds[stateOf(stretch)] = (seconds[stateOf(stretch)] ?? 0) + stretch.seconds;
  return Object.entries(seconds).map(([state, sum]) => `${lengthOf(sum)} ${state}`).join(', ') || 'nothing';
}
