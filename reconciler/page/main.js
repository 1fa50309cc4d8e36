// The page: which place is shown, for whom. Places are modules with one function, `place(host, where, signal)`; `signal`
// says when it was left.

import { access } from './access.js';
import { device } from './device.js';
import { deed, element, notice, show } from './dom.js';
import { fleet } from './fleet.js';
import { help } from './help.js';
import { jobs } from './jobs.js';
import { logInForm } from './login.js';
import { whereOf } from './places.js';
import { policies } from './policies.js';
import { runs } from './runs.js';
import { logOut, may, me, news, whoAmI } from './server.js';
import { patterns } from './states.js';
import { isUtc, useUtc, zoneName } from './time.js';

const PLACES = {
  '': { name: 'Cameras', place: fleet },
  device: { place: device },
  jobs: { name: 'Jobs', place: jobs },
  runs: { name: 'Runs', place: runs },
  policies: { name: 'Policies', place: policies },
  access: { name: 'Access', place: access, role: 'admin' },
};

let left = new AbortController();

async function go() {
  left.abort();
  left = new AbortController();
  const main = document.getElementById('main');
  if (me() === null) {
    head();
    return logInForm(main, () => {
      news.open();
      return go();
    });
  }
  const where = whereOf(location.hash);
  const found = PLACES[where.place];
  head(where.place);
  if (!found || (found.role && !may(found.role))) {
    return show(main, element('h1', {}, 'There is nothing here'), element('p', {}, element('a', { href: '#/' }, 'To the cameras')));
  }
  document.title = `${found.name ?? where.path[0] ?? ''} · Gapless`;
  const { signal } = left;
  try {
    await found.place(main, where, signal);
  } catch (error) {
    if (error.name === 'AbortError' || signal.aborted) return;
    show(main, element('h1', {}, 'This did not work'), element('p', { class: 'refused' }, error.message),
      deed('Try again', go));
  }
}

function head(current) {
  const places = Object.entries(PLACES).filter(([, { name, role }]) => name && me() && (!role || may(role)));
  show(document.getElementById('places'), places.map(([path, { name }]) => element('a', {
    href: `#/${path}`, 'aria-current': path === current ? 'page' : null }, name)));
  const zone = element('button', { class: 'plain', title: 'Show times in the other zone', onclick: () => useUtc(!isUtc()) }, zoneName());
  const leave = deed('Log out', async () => {
    await logOut();
    news.close();
    history.replaceState(null, '', '#/');
    await go();
  }, { class: 'plain' });
  const who = me();
  const session = who && [element('span', { class: 'quiet' }, `${who.name} (${who.role})`), who.way === 'session' ? leave : null];
  show(document.getElementById('who'), link, zone, element('button', { class: 'plain', 'aria-label': 'Help', onclick: help }, '?'), session);
}

const link = element('span', { id: 'link', class: 'quiet', hidden: true }, 'no connection');
news.addEventListener('link', ({ detail }) => { link.hidden = detail.up; });

document.addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, select, textarea, dialog');
  if (event.key === '?' && !typing) help();
});
document.addEventListener('zone', () => go());
document.addEventListener('logged-out', () => {
  news.close();
  notice('the session has ended: log in again', { kind: 'refused' });
  go();
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  document.getElementById('main').focus();
});
addEventListener('hashchange', go);

document.body.append(patterns());
whoAmI().then(() => {
  if (me()) news.open();
  return go();
}).catch((error) => show(document.getElementById('main'), element('p', { class: 'refused' }, error.message)));
