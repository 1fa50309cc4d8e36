// Policies: what should be recorded of which cameras, when it is pulled, and when the next run comes.

import { element, show, table } from './dom.js';
import { ask, news } from './server.js';
import { fromNow, instantOf, parse } from './time.js';

const ORIGINS = { file: 'from the configuration file', api: 'put by the API', built_in: 'built in, for what no other matches' };

export async function policies(host, where, signal) {
  const draw = async () => {
    const [all, next] = await Promise.all([ask('policies', {}, { signal }), ask('next-runs', { limit: 100 }, { signal })]);
    show(host, element('h1', {}, 'Policies'),
      element('p', { class: 'quiet' }, 'The first that matches a stream counts. They are changed in the configuration file, or with ',
        element('code', {}, 'gapless policy put'), '.'),
      all.map((policy) => card(policy, next.items.filter((run) => run.policy === policy.name))));
  };
  await draw();
  news.hear(['policy', 'run', 'lagged'], () => { if (!signal.aborted) draw().catch(() => {}); }, signal);
}

function card(policy, next) {
  const { name, origin, ...keys } = policy;
  const rows = Object.entries(keys).filter(([, value]) => value !== null && !(Array.isArray(value) && value.length === 0))
    .map(([key, value]) => element('tr', {}, element('th', { scope: 'row' }, key), element('td', {}, worded(value))));
  return element('article', { class: 'card' },
    element('h2', {}, name, ' ', element('span', { class: 'quiet' }, ORIGINS[origin] ?? origin)),
    table(name, ['Key', 'Value'], rows, { class: 'keys' }),
    next.length ? element('p', {}, 'Next runs: ', next.slice(0, 3).map((run, index) =>
      `${index ? ', ' : ''}${instantOf(parse(run.from))} (${fromNow(parse(run.from))})`)) : null);
}

function worded(value) {
  if (Array.isArray(value)) return value.map(worded).join(', ');
  if (value && typeof value === 'object') return Object.entries(value).map(([key, it]) => `${key} ${worded(it)}`).join('; ');
  return String(value);
}
