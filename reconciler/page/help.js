// What keys do, and how a hole is filled.

import { element } from './dom.js';
import { legend } from './states.js';

const KEYS = [
  ['← →', 'move along the timeline; with Shift, in small steps'],
  ['+ −', 'zoom'],
  ['Page Up, Page Down', 'earlier, later'],
  ['Enter', 'play from there'],
  ['S', 'mark the beginning of a selection, and its end'],
  ['Esc', 'select nothing'],
  ['Home', 'show all that was recorded'],
  ['?', 'this'],
];

export function help() {
  const close = () => dialog.close();
  const dialog = element('dialog', { class: 'help' },
    element('h2', {}, 'To fill a hole by hand'),
    element('ol', {},
      element('li', {}, 'Choose the camera.'),
      element('li', {}, 'Under “What is not whole”, press ', element('b', {}, 'Get it'), '. Or drag over the timeline, and press ',
        element('b', {}, 'Get it from the card'), '.'),
      element('li', {}, 'Watch it arrive. If the camera is away, the job waits for it.')),
    element('h2', {}, 'With the mouse or a finger'),
    element('p', {}, 'Click plays. Drag selects; with Shift it moves the timeline. The wheel zooms. A finger moves the timeline, two zoom; one that rests a moment first selects.'),
    element('h2', {}, 'With keys, on the timeline'),
    element('dl', { class: 'keys' }, KEYS.map(([key, tells]) => [element('dt', {}, element('kbd', {}, key)), element('dd', {}, tells)])),
    legend(),
    element('form', { method: 'dialog' }, element('button', { class: 'main' }, 'Close')));
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (event) => { if (event.target === dialog) close(); });
  document.body.append(dialog);
  dialog.showModal();
}
