// The selected range: what the archive and the card hold of it, and what can be done with it.

import { deed, element, show } from './dom.js';
import { ask, fileOf, may } from './server.js';
import { STATES, named, stateOf } from './states.js';
import { asText, instantOf, lengthOf, parse, read, sizeOf } from './time.js';

/** A selection that is still being changed is not asked about. */
const PAUSE = 400;

const HEARD = {
  live: 'The camera has just answered.',
  silent: 'The camera is there and did not answer in time: this is what it said last.',
  offline: 'The camera is away: this is what it said last.',
  never: 'The camera was never heard.',
};

export class Selection {
  /** `hooks`: `changed(from, to)`, `play(instant)`, `pull(from, to)`. */
  constructor(key, hooks) {
    this.key = key;
    this.hooks = hooks;
    const field = (label) => element('input', { 'aria-label': label, size: 23, placeholder: '2026-11-23 10:00:00' });
    this.from = field('From');
    this.to = field('To');
    this.found = element('div', { class: 'found', 'aria-live': 'polite' });
    this.deeds = element('div', { class: 'deeds' });
    this.element = element('section', { class: 'card', id: 'selection', 'aria-label': 'Selection' },
      element('h2', {}, 'Selection'),
      element('p', {}, this.from, ' to ', this.to),
      this.found, this.deeds);
    for (const input of [this.from, this.to]) input.addEventListener('change', () => this.typed());
    this.hint();
  }

  hint() {
    show(this.found, element('p', { class: 'quiet' }, 'Drag over the timeline, or type two instants: then play, get from the card, or export.'));
    show(this.deeds);
  }

  typed() {
    const [from, to] = [read(this.from.value), read(this.to.value)];
    this.from.setAttribute('aria-invalid', from === null);
    this.to.setAttribute('aria-invalid', to === null);
    if (from === null || to === null || to <= from) return;
    this.choose(from, to);
  }

  choose(from, to) {
    this.hooks.changed(from, to);
    clearTimeout(this.waits);
    this.asking?.abort();
    if (from === null) {
      [this.from.value, this.to.value] = ['', ''];
      this.hint();
      return;
    }
    this.from.value = instantOf(from, { millis: true });
    this.to.value = instantOf(to, { millis: true });
    this.offer(from, to);
    show(this.found, element('p', { class: 'quiet' }, 'Asking the camera…'));
    this.waits = setTimeout(() => this.search(from, to), PAUSE);
  }

  offer(from, to) {
    const name = `${this.key.device}-${asText(from).replace(/[:.]/g, '-')}.mp4`;
    const range = { from: asText(from), to: asText(to), download: name };
    show(this.deeds,
      deed('Play', () => this.hooks.play(from)),
      may('pull') ? deed('Get it from the card', () => this.hooks.pull(from, to), { class: 'main' }) : null,
      element('a', { class: 'button', href: fileOf(this.key, 'export.mp4', range), download: name }, 'Export MP4'),
      element('a', { class: 'button', href: fileOf(this.key, 'export.json', range), download: `${name}.json` }, 'Its proof'),
      element('button', { onclick: () => this.choose(null, null) }, 'Clear'));
  }

  async search(from, to) {
    this.asking = new AbortController();
    try {
      const found = await ask('search', { ...this.key, from: asText(from), to: asText(to) }, { signal: this.asking.signal });
      this.tell(found);
    } catch (error) {
      if (error.name === 'AbortError') return;
      show(this.found, element('p', { class: 'refused' }, error.message));
    }
  }

  tell(found) {
    const seconds = {};
    for (const stretch of found.archive) seconds[stateOf(stretch)] = (seconds[stateOf(stretch)] ?? 0) + stretch.seconds;
    const states = Object.keys(STATES).filter((state) => seconds[state]);
    const holds = found.held_s > 0
      ? [`${lengthOf(found.held_s)} of it`, found.held_bytes ? ` in files of ${sizeOf(found.held_bytes)}` : '',
        `, placed to within ${lengthOf(found.uncertainty_s)}`]
      : 'nothing of it';
    show(this.found,
      element('p', {}, element('b', {}, lengthOf(found.seconds)), '. In the archive: ',
        states.length ? states.map((state, index) => [index ? ', ' : '', named(state), ` ${lengthOf(seconds[state])}`]) : 'nothing is expected here'),
      element('p', {}, 'On the card: ', holds, '. ', element('span', { class: 'quiet' }, HEARD[found.heard])),
      found.goes_at ? element('p', { class: 'risk' }, `⚠ It begins to be overwritten at ${instantOf(parse(found.goes_at))}.`) : null);
  }

  leave() {
    clearTimeout(this.waits);
    this.asking?.abort();
  }
}
