// Logging in.

import { element, show } from './dom.js';
import { logIn } from './server.js';

export function logInForm(host, entered) {
  const name = element('input', { name: 'name', autocomplete: 'username', required: true, value: 'admin' });
  const password = element('input', { name: 'password', type: 'password', autocomplete: 'current-password', required: true });
  const refused = element('p', { class: 'refused', role: 'alert' });
  const enter = element('button', { type: 'submit', class: 'main' }, 'Log in');
  const form = element('form', { class: 'login' },
    element('h1', {}, 'Gapless'),
    element('p', {}, 'Makes cameras’ recordings whole again.'),
    element('label', {}, 'Name', name),
    element('label', {}, 'Password', password),
    enter, refused,
    element('p', { class: 'quiet' }, 'The first start of ', element('code', {}, 'gapless serve'),
      ' prints how to log in. A new password: ', element('code', {}, 'gapless user password admin'), '.'));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    enter.disabled = true;
    refused.textContent = '';
    try {
      await logIn(name.value, password.value);
      await entered();
    } catch (error) {
      refused.textContent = error.message;
      password.select();
    } finally {
      enter.disabled = false;
    }
  });
  show(host, form);
  password.focus();
}
