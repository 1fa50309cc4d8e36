// Who may do what: users, tokens for programs, and what was done. For administrators.

import { deed, element, notice, show, table } from './dom.js';
import { ask, me, send } from './server.js';
import { instantOf, parse } from './time.js';

const ROLES = [['view', 'see and play'], ['pull', 'also get from cards'], ['admin', 'also users, policies, runs']];
const AUDIT_PAGE = 100;

export async function access(host, where, signal) {
  const draw = () => access(host, where, signal);
  const [users, tokens, audit] = await Promise.all([ask('users', {}, { signal }), ask('tokens', {}, { signal }),
    ask('audit', { limit: AUDIT_PAGE }, { signal })]);
  show(host, element('h1', {}, 'Access'),
    element('h2', {}, 'Users'), table('Users', ['Name', 'Role', 'Since', ''], users.items.map((user) => userRow(user, draw))), addUser(draw),
    element('h2', {}, 'Tokens'), element('p', { class: 'quiet' }, 'For programs: sent as ', element('code', {}, 'Authorization: Bearer …'), '.'),
    tokens.items.length ? table('Tokens', ['Name', 'Role', 'Since', 'Last used', ''], tokens.items.map((token) => tokenRow(token, draw))) : null, addToken(draw),
    element('h2', {}, 'What was done'), auditTable(audit.items));
}

function userRow(user, draw) {
  const remove = async () => {
    if (!confirm(`Remove ${user.name}?`)) return;
    await send('DELETE', `users/${encodeURIComponent(user.name)}`);
    await draw();
  };
  return element('tr', {}, element('th', { scope: 'row' }, user.name), element('td', {}, user.role),
    element('td', {}, instantOf(parse(user.created))),
    element('td', {}, user.name === me()?.name ? element('span', { class: 'quiet' }, 'you') : deed('Remove', remove)));
}

function tokenRow(token, draw) {
  const remove = async () => {
    await send('DELETE', `tokens/${encodeURIComponent(token.name)}`);
    await draw();
  };
  return element('tr', {}, element('th', { scope: 'row' }, token.name), element('td', {}, token.role),
    element('td', {}, instantOf(parse(token.created))), element('td', {}, instantOf(parse(token.last_used))),
    element('td', {}, deed('Revoke', remove)));
}

const roleField = () => element('select', { name: 'role', 'aria-label': 'Role' },
  ROLES.map(([role, tells]) => element('option', { value: role }, `${role}: ${tells}`)));

function addUser(draw) {
  const name = element('input', { 'aria-label': 'Name', placeholder: 'name', required: true, autocomplete: 'off' });
  const password = element('input', { 'aria-label': 'Password', type: 'password', placeholder: 'password', required: true, autocomplete: 'new-password' });
  const role = roleField();
  return form(['Add a user: ', name, password, role], async () => {
    await send('POST', 'users', { name: name.value, password: password.value, role: role.value });
    await draw();
  });
}

function addToken(draw) {
  const name = element('input', { 'aria-label': 'Name', placeholder: 'what for', required: true, autocomplete: 'off' });
  const role = roleField();
  return form(['Make a token: ', name, role], async () => {
    const made = await send('POST', 'tokens', { name: name.value, role: role.value });
    await draw();
    notice(`shown once, keep it: ${made.token}`, { kind: 'kept' });
  });
}

function form(fields, work) {
  const made = element('form', { class: 'inline' }, fields, element('button', { type: 'submit' }, 'Add'));
  made.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await work();
    } catch (error) {
      notice(error.message, { kind: 'refused' });
    }
  });
  return made;
}

function auditTable(items) {
  const footage = (it) => (it.footage_from ? `${instantOf(parse(it.footage_from))} – ${instantOf(parse(it.footage_to))}` : '');
  return table('What was done', ['When', 'Who', 'From', 'What', 'Of', 'Outcome'], items.map((it) => element('tr', {},
    element('td', {}, instantOf(parse(it.at))), element('td', {}, it.who), element('td', {}, it.from),
    element('td', {}, it.action.replaceAll('_', ' ')),
    element('td', {}, [it.device, it.stream, it.subject, footage(it)].filter(Boolean).join(' ')),
    element('td', {}, it.outcome, it.reason ? element('span', { class: 'quiet' }, `: ${it.reason}`) : null))));
}
