// How elements are made. Text is always text: nothing that a server or a device says becomes markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An HTML element; attributes that begin with `on` are listeners, those that are null or false are left out. */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function drawing(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Puts these in the place of all that was in it. */
export function show(host, ...children) {
  host.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** A line at the lower edge that goes away by itself; a refusal, and what is to be kept, stay until they are closed. */
export function notice(text, { kind = 'done' } = {}) {
  const host = document.getElementById('notices');
  const close = () => line.remove();
  const line = element('p', { class: `notice ${kind}` }, text, ' ',
    element('button', { class: 'plain', 'aria-label': 'Close', onclick: close }, '✕'));
  host.append(line);
  while (host.children.length > 4) host.firstChild.remove();
  if (kind === 'done') setTimeout(close, 8000);
}

/** A table with a head and a caption that only screen readers hear. */
export function table(caption, heads, rows, attributes = {}) {
  return element('div', { class: 'scrolled' }, element('table', attributes,
    element('caption', { class: 'heard' }, caption),
    element('thead', {}, element('tr', {}, heads.map((head) => element('th', { scope: 'col' }, head)))),
    element('tbody', {}, rows)));
}

/** Runs a deed of a button: no second press until it has ended, and what goes wrong is told. */
export function deed(label, work, attributes = {}) {
  const button = element('button', { type: 'button', ...attributes }, label);
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      notice(error.message, { kind: 'refused' });
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
