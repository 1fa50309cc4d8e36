// All cameras: who is there, how whole each one is, and what will be lost if nothing is done.

import { deed, element, show, table } from './dom.js';
import { deviceAt } from './places.js';
import { ask, gathered, news, streamPath } from './server.js';
import { legend, wholeness } from './states.js';
import { strip } from './timeline.js';
import { DAY, asText, fromNow, instantOf, lengthOf, parse } from './time.js';

const PAGE = 100;
/** News within this are shown together. */
const PAUSE = 500;

export async function fleet(host, where, signal) {
  const wanted = element('input', { type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name' });
  const body = element('div', { id: 'fleet' });
  const sum = element('p', { class: 'lead' });
  show(host, element('h1', {}, 'Cameras'), sum, element('p', {}, wanted), body, legend());
  let devices = await load(signal);
  const draw = () => {
    const shown = devices.items.filter(({ device }) => device.includes(wanted.value.trim()));
    sum.textContent = summary(devices.items);
    show(body, devices.items.length ? list(shown, signal) : empty(), devices.next && deed('Show more', async () => {
      const more = await ask('devices', { limit: PAGE, after: devices.next }, { signal });
      devices = { items: [...devices.items, ...more.items], next: more.next };
      draw();
    }));
  };
  wanted.addEventListener('input', draw);
  draw();
  const again = async () => {
    try {
      devices = await load(signal, devices.items.length);
      draw();
    } catch (error) {
      // It is tried again with the next news; the head of the page says that the connection is gone.
    }
  };
  news.hear(['device', 'timeline', 'at_risk', 'lagged'], gathered(again, PAUSE, signal), signal);
}

const load = (signal, known = 0) => ask('devices', { limit: Math.min(Math.max(PAGE, known), 1000) }, { signal });

function summary(devices) {
  const online = devices.filter((it) => it.online).length;
  const open = devices.filter((it) => !it.completeness.complete).length;
  const risk = devices.filter((it) => it.at_risk).length;
  const parts = [`${online} of ${devices.length} online`, open ? `${open} not whole yet` : 'all whole'];
  if (risk) parts.push(`${risk} about to lose footage`);
  return devices.length ? parts.join(' · ') : '';
}

function empty() {
  return element('div', { class: 'card' }, element('h2', {}, 'No camera has been heard yet'),
    element('p', {}, 'Start ', element('code', {}, 'gapless-agent run --config agent.toml'),
      ' on one, with this server’s broker as its ', element('code', {}, 'url'), '. It appears here by itself.'));
}

function list(devices, signal) {
  const rows = devices.flatMap((it) => it.streams.map((stream, index) => row(it, stream, index === 0, signal)));
  return table('Cameras', ['Camera', 'Link', 'Whole', 'The last 24 hours', ''], rows, { class: 'fleet' });
}

function row(it, stream, isFirst, signal) {
  const href = deviceAt({ device: it.device, stream: stream.stream });
  const name = element('a', { href }, it.device, it.streams.length > 1 ? element('span', { class: 'quiet' }, ` ${stream.stream}`) : null);
  const heard = it.last_heard ? `heard ${fromNow(parse(it.last_heard))}` : 'never heard';
  const link = element('span', { class: it.online ? 'online' : 'offline', title: heard }, it.online ? '● online' : '○ offline');
  const day = element('td', { class: 'day' });
  lazily(day, signal, () => lastDay(day, { device: it.device, stream: stream.stream }, signal));
  return element('tr', { 'data-device': it.device, 'data-stream': stream.stream },
    element('th', { scope: 'row' }, name),
    element('td', {}, isFirst ? link : null, isFirst && !it.online ? element('div', { class: 'quiet' }, heard) : null),
    element('td', {}, wholeness(stream.completeness)),
    day,
    element('td', {}, isFirst ? risk(it) : null));
}

/** Before it is lost. */
function risk(it) {
  if (!it.at_risk) return null;
  const { seconds, first_at: first } = it.at_risk;
  return element('span', { class: 'risk' }, `⚠ ${lengthOf(seconds)} will be overwritten`,
    first ? element('div', { class: 'quiet' }, `from ${instantOf(parse(first))}`) : null);
}

async function lastDay(cell, key, signal) {
  const to = Date.now();
  const from = to - DAY;
  try {
    const timeline = await ask(streamPath(key, 'timeline'),
      { from: asText(from), to: asText(to), resolution_s: DAY / 1000 / 500, limit: 1000 }, { signal });
    show(cell, strip(timeline.items, from, to));
  } catch (error) {
    if (error.name !== 'AbortError') show(cell, element('span', { class: 'quiet' }, error.message));
  }
}

/** Asks for what is looked at, not for all of a thousand cameras. */
function lazily(node, signal, work) {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    work();
  });
  watcher.observe(node);
  signal.addEventListener('abort', () => watcher.disconnect());
}
