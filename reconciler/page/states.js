// The states of an instant, as they are drawn and told. Each has a colour and a pattern: nobody needs to see colours.

import { element, drawing } from './dom.js';
import { lengthOf } from './time.js';

/** In the order of the legend. `open` is what is still to come. */
export const STATES = {
  live: { word: 'archived', tells: 'recorded live by the central recorder' },
  edge: { word: 'archived from card', tells: 'pulled from the card, digest compared' },
  transferring: { word: 'transferring', tells: 'on its way from the card', open: true },
  pending: { word: 'pending', tells: 'on the card, and in the queue', open: true },
  missing: { word: 'missing', tells: 'not here, and its device has not been heard about it', open: true },
  never_recorded: { word: 'never recorded', tells: 'the card never held it' },
  overwritten: { word: 'overwritten', tells: 'was on the card, and gone before it was pulled' },
  failed: { word: 'failed', tells: 'could not be pulled', open: true },
  unexpected: { word: 'not expected', tells: 'no policy wants it, and nobody has asked for it' },
};

/** Of a stretch as the server tells it. */
export function stateOf(stretch) {
  if (stretch.state === 'archived') return stretch.by === 'edge' ? 'edge' : 'live';
  return stretch.state;
}

/** What a person wants to know of it beside the word. */
export function explained(stretch) {
  const state = STATES[stateOf(stretch)];
  const notes = [state.word];
  if (stretch.mixed) notes.push(`among others that are too short to draw: ${sums(stretch.by_state_s)}`);
  if (stretch.state === 'archived' && stretch.by === 'edge') notes.push(`proof: ${stretch.proof}`);
  if (stretch.uncertainty_ns) notes.push(`placed to within ${lengthOf(stretch.uncertainty_ns / 1e9)}`);
  if (stretch.cause) notes.push(stretch.cause);
  if (stretch.reason) notes.push(stretch.reason);
  return notes.join(', ');
}

const sums = (seconds) => Object.entries(seconds ?? {}).filter(([, sum]) => sum > 0)
  .map(([state, sum]) => `${lengthOf(sum)} ${state.replace('_', ' ')}`).join(', ');

const FILLS = {
  live: [],
  edge: [['path', { d: 'M0 4h8', class: 'ink' }]],
  transferring: [['path', { d: 'M-2 2l4-4M0 8l8-8M6 10l4-4', class: 'ink' }]],
  pending: [['circle', { cx: 4, cy: 4, r: 1.4, class: 'ink-fill' }]],
  missing: [['path', { d: 'M-2 6l4 4M0 0l8 8M6-2l4 4', class: 'ink' }]],
  never_recorded: [['path', { d: 'M0 0l8 8M8 0l-8 8', class: 'ink thin' }]],
  overwritten: [['path', { d: 'M2 0v8M6 0v8', class: 'ink thin' }]],
  failed: [['path', { d: 'M1 1l6 6M7 1l-6 6', class: 'ink bold' }]],
  unexpected: [],
  held: [['path', { d: 'M0 2h8M0 6h8', class: 'ink thin' }]],
};

/** The patterns that stretches are filled with; once a page, as all drawings may refer to them. */
export function patterns() {
  const pattern = ([name, lines]) => drawing('pattern',
    { id: `fill-${name}`, width: 8, height: 8, patternUnits: 'userSpaceOnUse' },
    drawing('rect', { width: 8, height: 8, class: `ground ${name}` }),
    lines.map(([kind, attributes]) => drawing(kind, attributes)));
  return drawing('svg', { class: 'patterns', width: 0, height: 0, 'aria-hidden': 'true' },
    drawing('defs', {}, Object.entries(FILLS).map(pattern)));
}

export function swatch(state) {
  return drawing('svg', { class: 'swatch', width: 18, height: 14, 'aria-hidden': 'true' },
    drawing('rect', { width: 18, height: 14, rx: 2, fill: `url(#fill-${state})` }));
}

export function named(state) {
  return element('span', { class: 'state' }, swatch(state), ' ', STATES[state].word);
}

export function legend() {
  const row = ([name, { word, tells }]) => [
    element('dt', {}, swatch(name), ' ', word),
    element('dd', {}, tells),
  ];
  return element('details', { class: 'legend' }, element('summary', {}, 'What the colours mean'),
    element('dl', {}, Object.entries(STATES).map(row),
      element('dt', {}, swatch('held'), ' on the card'), element('dd', {}, 'what the device last said that its card holds')));
}

/** `99.9 %` or `whole`: 100 % is printed only where nothing is missing. */
export function wholeness(completeness) {
  if (!completeness || !completeness.expected_s) return element('span', { class: 'quiet' }, 'nothing expected yet');
  const { complete, percent, open_s: open, lost_s: lost } = completeness;
  const percentage = complete ? 100 : Math.min(percent, 99.9);
  const words = complete ? (lost ? `whole but for ${lengthOf(lost)} that is lost` : 'whole') : `${lengthOf(open)} to come`;
  return element('span', { class: 'wholeness' },
    element('meter', { min: 0, max: 100, value: percentage, 'aria-label': 'settled' }),
    ` ${percentage} % `, element('span', { class: complete ? 'quiet' : 'open' }, words));
}
