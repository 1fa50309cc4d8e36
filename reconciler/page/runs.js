// Runs: what policies have done in their windows, what they left and why, and when the next ones come.

import { deed, element, show, table } from './dom.js';
import { deviceAt } from './places.js';
import { ask, gathered, may, news, send } from './server.js';
import { fromNow, instantOf, lengthOf, parse, sizeOf } from './time.js';

/** News within this are shown together. */
const PAUSE = 1000;

export async function runs(host, where, signal) {
  const draw = async () => {
    if (where.path[0]) show(host, await report(where.path[0], signal));
    else show(host, await overview(signal));
  };
  await draw();
  news.hear(['run', 'merged', 'lagged'], gathered(() => draw().catch(() => {}), PAUSE, signal), signal);
}

async function overview(signal) {
  const [done, next] = await Promise.all([ask('runs', { limit: 100 }, { signal }), ask('next-runs', { limit: 20 }, { signal })]);
  const row = (run) => element('tr', {},
    element('th', { scope: 'row' }, element('a', { href: `#/runs/${run.id}` }, run.id)),
    element('td', {}, run.policy), element('td', {}, instantOf(parse(run.opened))),
    element('td', {}, element('span', { class: `word ${run.state}` }, run.state)),
    element('td', {}, String(run.devices.length)), element('td', {}, lengthOf(run.archived_s)), element('td', {}, sizeOf(run.bytes)),
    element('td', {}, run.left_s ? element('span', { class: 'open' }, lengthOf(run.left_s)) : 'nothing'));
  const coming = (run) => element('tr', {}, element('td', {}, run.policy), element('td', {}, instantOf(parse(run.from))),
    element('td', {}, fromNow(parse(run.from))), element('td', {}, lengthOf(run.seconds)));
  return [element('h1', {}, 'Runs'),
    done.length ? table('Runs', ['Run', 'Policy', 'Opened', 'State', 'Cameras', 'Archived', 'Bytes', 'Left'], done.map(row))
      : element('p', {}, 'No policy has run yet.'),
    element('h2', {}, 'To come'),
    next.items.length ? table('Runs to come', ['Policy', 'When', '', 'Window'], next.items.map(coming))
      : element('p', {}, 'None: no policy has a schedule.')];
}

async function report(id, signal) {
  const run = await ask(`runs/${encodeURIComponent(id)}`, {}, { signal });
  const rows = run.devices.map((it) => element('tr', {},
    element('th', { scope: 'row' }, element('a', { href: deviceAt({ device: it.device }) }, it.device)),
    element('td', {}, it.seen ? instantOf(parse(it.seen)) : 'never there'),
    element('td', {}, lengthOf(it.archived_s)), element('td', {}, sizeOf(it.bytes)),
    element('td', {}, it.left.length ? element('ul', {}, it.left.slice(0, 20).map((left) => element('li', {},
      `${left.stream} ${instantOf(parse(left.from))}, ${lengthOf(left.seconds)}: ${left.why}`))) : 'nothing')));
  return [element('p', { class: 'crumbs' }, element('a', { href: '#/runs' }, 'Runs'), ' ›'),
    element('h1', {}, `Run ${run.id}`),
    element('p', { class: 'lead' }, `${run.policy}: ${run.state}. ${lengthOf(run.archived_s)} archived, ${sizeOf(run.bytes)}; ${
      run.left_s ? `${lengthOf(run.left_s)} left` : 'nothing left'}.`),
    element('p', {}, `Its window: ${instantOf(parse(run.from))} to ${instantOf(parse(run.to))}`),
    run.state === 'open' && may('admin') ? deed('End it early', () => send('DELETE', `runs/${run.id}`)) : null,
    table('Cameras', ['Camera', 'First there', 'Archived', 'Bytes', 'Left, and why'], rows)];
}
