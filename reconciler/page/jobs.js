// Jobs: what people have asked for, and how it gets on.

import { deed, element, notice, show } from './dom.js';
import { deviceAt } from './places.js';
import { ask, gathered, may, news, send } from './server.js';
import { explained, named, stateOf } from './states.js';
import { fromNow, instantOf, lengthOf, parse, sizeOf } from './time.js';

/** How often a job that is open is looked at; its bytes are not told by themselves. */
const FOLLOW = 1000;
/** News within this are shown together. */
const PAUSE = 300;

export async function jobs(host, where, signal) {
  const list = element('div', { id: 'jobs' });
  show(host, element('h1', {}, 'Jobs'),
    element('p', { class: 'quiet' }, 'What was asked for by hand. To ask for more, choose a camera and drag over its timeline.'), list);
  const draw = async () => {
    const all = await ask('jobs', {}, { signal });
    show(list, all.length ? all.map((job) => {
      const line = element('div');
      jobLine(line, job, signal);
      return line;
    }) : element('p', {}, 'None yet.'));
  };
  await draw();
  const again = gathered(() => draw().catch((error) => notice(error.message, { kind: 'refused' })), PAUSE, signal);
  news.hear(['job', 'lagged'], (detail) => {
    if (!detail.id || !document.getElementById(`job-${detail.id}`)) again();
  }, signal);
}

/** One job, followed until it has ended. */
export function jobLine(host, job, signal) {
  drawJob(host, job);
  if (!isOpen(job)) return;
  let timer = null;
  const follow = async () => {
    let known = job;
    try {
      known = await ask(`jobs/${job.id}`, {}, { signal });
      drawJob(host, known);
    } catch (error) {
      if (error.name === 'AbortError' || error.status === 404) return;
    }
    if (isOpen(known) && !signal.aborted) timer = setTimeout(follow, FOLLOW);
  };
  timer = setTimeout(follow, FOLLOW / 4);
  signal.addEventListener('abort', () => clearTimeout(timer));
}

const isOpen = (job) => job.state === 'open';

function drawJob(host, job) {
  const share = job.bytes ? job.arrived_bytes / job.bytes : 0;
  const open = isOpen(job);
  const href = deviceAt(job, { from: job.from, to: job.to });
  const cancel = () => send('DELETE', `jobs/${job.id}`).then((ended) => drawJob(host, ended));
  show(host, element('article', { class: 'card job', id: `job-${job.id}`, 'data-state': job.state },
    element('h3', {}, `${job.id} `, element('a', { href }, `${job.device} ${job.stream}`), ' ', element('span', { class: `word ${job.state}` }, wordOf(job))),
    element('p', {}, `${instantOf(parse(job.from))} – ${instantOf(parse(job.to))} (${lengthOf(job.seconds)})`),
    open ? [element('progress', { max: 1, value: job.bytes ? share : null, 'aria-label': 'arrived' }), element('p', { class: 'quiet' }, progressOf(job))] : null,
    element('p', {}, outcomeOf(job)),
    job.lacking.length ? element('ul', {}, job.lacking.slice(0, 10).map((stretch) => element('li', {}, named(stateOf(stretch)), ' ',
      `${instantOf(parse(stretch.from))}, ${lengthOf(stretch.seconds)}: ${explained(stretch)}`))) : null,
    open && may('pull') ? deed('Cancel', cancel) : null));
}

const wordOf = (job) => (job.whole && !isOpen(job) ? 'whole' : job.state);

function progressOf(job) {
  if (!job.online) return `the camera is away; the job waits until ${instantOf(parse(job.deadline))}`;
  if (!job.bytes) return 'asking the camera where it is on the card';
  const parts = [`${sizeOf(job.arrived_bytes)} of ${sizeOf(job.bytes)}`];
  if (job.bytes_per_second) parts.push(`${sizeOf(job.bytes_per_second)}/s`);
  if (job.done_at) parts.push(`done ${fromNow(parse(job.done_at))}`);
  return parts.join(' · ');
}

function outcomeOf(job) {
  const sums = [['archived', job.archived_s], ['still to come', job.open_s], ['lost', job.lost_s], ['failed', job.failed_s]];
  const told = sums.filter(([, seconds]) => seconds > 0).map(([word, seconds]) => `${lengthOf(seconds)} ${word}`);
  return job.whole ? 'Every instant of it is in the archive.' : told.join(' · ');
}
