// The page: which place is shown, for whom. Places are modules with one function, `place(host, where, signal)`; `signal`
// says when it was left.

import { access } from './access.js';
import { device } from './device.js';
import { deed, element, notice, show } from './dom.js';
import { fleet } from './fleet.js';
import { help } from './help.js';
import { jobs } from './jobs.js';
import { logInForm } from './login.js';
import { policies } from './policies.js';
import { runs } from './runs.js';
import { logOut, news, whoAmI } from './server.js';
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

const ROLES = ['view', 'pull', 'admin'];
/** Whether whoever is logged in may do what a role may. */
export const may = (role) => ROLES.indexOf(who?.role) >= ROLES.indexOf(role);
export const me = () => who;

let who = null;
let left = new AbortController();

/** `#/device/cam-1/main?from=…` as `{ place, path: [...], query }`. */
function whereOf(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const [place = '', ...rest] = path.split('/').map(decodeURIComponent);
  return { place, path: rest, query: new URLSearchParams(query ?? '') };
}

async function go() {
  left.abort();
  left = new AbortController();
  const main = document.getElementById('main');
  if (who === null) {
    head();
    return logInForm(main, (session) => {
      who = session;
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
  const places = Object.entries(PLACES).filter(([, { name, role }]) => name && who && (!role || may(role)));
  show(document.getElementById('places'), places.map(([path, { name }]) => element('a', {
    href: `#/${path}`, 'aria-current': path === current ? 'page' : null }, name)));
  const zone = element('button', { class: 'plain', title: 'Show times in the other zone', onclick: () => useUtc(!isUtc()) }, zoneName());
  const leave = deed('Log out', async () => {
    await logOut();
    who = null;
    news.close();
    history.replaceState(null, '', '#/');
    await go();
  }, { class: 'plain' });
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
  if (who === null) return;
  who = null;
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
whoAmI().then((session) => {
  who = session;
  if (who) news.open();
  return go();
}).catch((error) => show(document.getElementById('main'), element('p', { class: 'refused' }, error.message)));
