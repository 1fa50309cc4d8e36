// One stream of a camera: its timeline, what is not whole of it, the player, and the selection that is played,
// pulled or exported.

import { deed, element, notice, show, table } from './dom.js';
import { jobLine } from './jobs.js';
import { deviceAt } from './places.js';
import { Player } from './player.js';
import { Selection } from './selection.js';
import { ask, askAll, gathered, may, news, send, streamPath } from './server.js';
import { legend, named, stateOf, wholeness } from './states.js';
import { LONGEST, Timeline } from './timeline.js';
import { DAY, HOUR, MINUTE, SECOND, asText, clockOf, dayOf, fromNow, instantOf, lengthOf, parse } from './time.js';

/** What is drawn is asked for in this many steps. */
const STEPS = 1200;
const MOST_HOLES = 200;
const WINDOWS = [['Minute', MINUTE], ['Hour', HOUR], ['Day', DAY], ['Week', 7 * DAY], ['Month', 31 * DAY]];
/** News within this are shown together; where time alone goes by, the newest edge is looked at this often. */
const PAUSE = 300;
const GROWS = 5 * SECOND;

export async function device(host, where, signal) {
  const known = await ask(`devices/${encodeURIComponent(where.path[0])}`, {}, { signal });
  const stream = where.path[1] ?? known.streams[0]?.stream;
  const found = known.streams.find((it) => it.stream === stream);
  if (!found) throw new Error(`${known.device} has no stream ${stream ?? 'yet'}: it has ${known.streams.map((it) => it.stream).join(', ') || 'none'}`);
  await new Place(host, known, found, where.query, signal).open();
}

class Place {
  constructor(host, known, stream, query, signal) {
    Object.assign(this, { host, known, stream, signal });
    this.key = { device: known.device, stream: stream.stream };
    this.soon = gathered(() => this.load().catch(() => {}), PAUSE, signal);
    const [from, to] = [parse(query.get('from')), parse(query.get('to'))];
    this.asked = from !== null && to !== null ? [from, to] : null;
    this.state = element('p', { class: 'lead' });
    this.holes = element('div', { id: 'holes' });
    this.work = element('div', { id: 'work' });
    this.player = new Player(this.key, (instant) => this.timeline.at(instant));
    this.selection = new Selection(this.key, {
      changed: (from, to) => this.timeline.select(from, to),
      play: (instant) => this.player.play(instant),
      pull: (from, to) => this.pull(from, to),
    });
  }

  async open() {
    const lane = element('div', { class: 'lanes' });
    const tools = element('div', { class: 'tools' });
    const others = this.known.streams.filter((it) => it.stream !== this.key.stream);
    show(this.host,
      element('p', { class: 'crumbs' }, element('a', { href: '#/' }, 'Cameras'), ' ›'),
      element('h1', {}, this.key.device, element('span', { class: 'quiet' }, ` ${this.key.stream}`)),
      others.length ? element('p', {}, 'Also: ', others.map((it) => element('a', {
        href: deviceAt({ ...this.key, stream: it.stream }) }, it.stream, ' '))) : null,
      this.state, tools, lane, this.player.element, this.selection.element, this.work,
      element('h2', {}, 'What is not whole', element('span', { class: 'quiet' }, ' in the time shown above')), this.holes, legend());
    this.timeline = new Timeline(lane, {
      look: (from, to) => (from === null ? this.showAll() : this.look(from, to)),
      play: (instant) => this.player.play(instant).catch((error) => notice(error.message, { kind: 'refused' })),
      select: (from, to) => this.selection.choose(from, to),
    });
    this.signal.addEventListener('abort', () => {
      this.player.stop();
      this.selection.leave();
      this.timeline.resizing.disconnect();
      clearInterval(this.growing);
    });
    this.tools(tools);
    this.describe();
    this.fits = !this.asked;
    if (this.asked) this.timeline.window(...this.asked);
    this.listen();
    await this.load();
    this.growing = setInterval(() => {
      const seen = this.fits || this.timeline.to > Date.now() - GROWS;
      if (!document.hidden && seen) this.load().catch(() => {});
    }, GROWS);
  }

  tools(host) {
    const length = (size) => {
      const middle = Math.min((this.timeline.from + this.timeline.to) / 2, Date.now() - size / 2 + size / 10);
      this.look(middle - size / 2, middle + size / 2);
    };
    show(host,
      element('button', { 'aria-label': 'Earlier', onclick: () => this.timeline.pan(-0.5) }, '‹'),
      element('button', { 'aria-label': 'Later', onclick: () => this.timeline.pan(0.5) }, '›'),
      element('button', { 'aria-label': 'Zoom in', onclick: () => this.timeline.zoom(0.5) }, '+'),
      element('button', { 'aria-label': 'Zoom out', onclick: () => this.timeline.zoom(2) }, '−'),
      WINDOWS.map(([name, size]) => element('button', { onclick: () => length(size) }, name)),
      element('button', { onclick: () => this.showAll() }, 'All'));
  }

  describe() {
    const { online, last_heard: heard, agent_version: version } = this.known;
    show(this.state,
      element('span', { class: online ? 'online' : 'offline' }, online ? '● online' : `○ offline, heard ${fromNow(parse(heard))}`),
      '  ', wholeness(this.stream.completeness), '  ',
      version ? element('span', { class: 'quiet' }, `agent ${version}`) : null,
      this.known.at_risk ? element('span', { class: 'risk' }, ` ⚠ ${lengthOf(this.known.at_risk.seconds)} will be overwritten`) : null);
  }

  /** All that was recorded, with a little room. Until a person chooses a window, it grows with the recording. */
  fitAll() {
    const ranges = [this.stream.recorded, this.stream.held].filter(Boolean);
    const now = Date.now();
    const from = Math.min(now - MINUTE, ...ranges.map((range) => parse(range.from)));
    const to = Math.max(now, ...ranges.map((range) => parse(range.to)));
    const room = (to - from) / 40;
    this.timeline.window(Math.max(from, to - LONGEST) - room, to + room);
  }

  showAll() {
    this.fits = true;
    history.replaceState(null, '', deviceAt(this.key));
    this.load().catch((error) => notice(error.message, { kind: 'refused' }));
  }

  look(from, to) {
    this.fits = false;
    this.timeline.window(from, to);
    history.replaceState(null, '', deviceAt(this.key, { from: asText(from), to: asText(to) }));
    this.soon();
  }

  /** What is shown, anew; a slower answer to an older question is not drawn. */
  async load() {
    const turn = this.turn = (this.turn ?? 0) + 1;
    if (this.fits) this.fitAll();
    const { from, to } = this.timeline;
    const range = { from: asText(from), to: asText(to) };
    const of = (what, query) => ask(streamPath(this.key, what), query, { signal: this.signal });
    const resolution = (to - from) / 1000 / STEPS;
    const [timeline, coverage, gaps] = await Promise.all([
      askAll(streamPath(this.key, 'timeline'), { ...range, resolution_s: resolution, limit: 2000 }),
      of('coverage', range),
      ask('gaps', { ...this.key, ...range, newest_first: true, limit: MOST_HOLES }, { signal: this.signal }),
    ]);
    if (turn !== this.turn || this.signal.aborted) return;
    this.timeline.tell(timeline, coverage.held);
    this.drawHoles(gaps);
  }

  drawHoles(gaps) {
    const row = (gap) => {
      const [from, to] = [parse(gap.from), parse(gap.to)];
      const look = () => {
        const room = Math.max(to - from, 10 * SECOND);
        this.look(from - room, to + room);
        this.selection.choose(from, to);
      };
      const gettable = !['never_recorded', 'overwritten'].includes(gap.state) && may('pull');
      return element('tr', { 'data-state': gap.state },
        element('td', {}, named(stateOf(gap))),
        element('td', {}, `${dayOf(from)} ${clockOf(from)} – ${dayOf(from) === dayOf(to) ? '' : `${dayOf(to)} `}${clockOf(to)}`),
        element('td', {}, lengthOf(gap.seconds)),
        element('td', { class: 'quiet' }, gap.cause ?? gap.reason ?? ''),
        element('td', { class: 'deeds' }, element('button', { onclick: look }, 'Show'),
          gettable ? deed('Get it', () => this.pull(from, to), { class: 'main' }) : null));
    };
    show(this.holes, gaps.items.length
      ? table('What is not whole', ['State', 'When', 'Length', 'Why', ''], gaps.items.map(row))
      : element('p', {}, 'Nothing: every instant of it that should be here is.'),
    gaps.next ? element('p', { class: 'quiet' }, `There are more: these are the newest ${MOST_HOLES}. Zoom in for the others.`) : null);
  }

  async pull(from, to) {
    const job = await send('POST', 'jobs', { ...this.key, from: asText(from), to: asText(to) });
    notice(job.online ? `job ${job.id}: it is being pulled` : `job ${job.id}: the camera is away; it waits until ${instantOf(parse(job.deadline))}`);
    this.follow(job);
  }

  follow(job) {
    const host = element('div');
    this.work.prepend(host);
    while (this.work.children.length > 5) this.work.lastChild.remove();
    jobLine(host, job, this.signal);
  }

  listen() {
    const own = (detail) => detail.device === this.key.device && (!detail.stream || detail.stream === this.key.stream);
    news.hear(['timeline', 'merged', 'at_risk', 'device', 'lagged'], async (detail, kind) => {
      if (kind !== 'lagged' && !own(detail)) return;
      if (kind === 'merged') return this.soon();
      this.known = await ask(`devices/${encodeURIComponent(this.key.device)}`, {}, { signal: this.signal }).catch(() => this.known);
      this.stream = this.known.streams.find((it) => it.stream === this.key.stream) ?? this.stream;
      if (this.signal.aborted) return;
      this.describe();
      this.soon();
    }, this.signal);
  }
}
