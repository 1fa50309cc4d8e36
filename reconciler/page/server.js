// What is asked of the server, and what it says by itself. The words are those of /api/v1/openapi.json.

const ROOT = '/api/v1';
let who = null;

const ROLES = ['view', 'pull', 'admin'];
/** Whoever is logged in: `{ name, role, way }`, or null. */
export const me = () => who;
/** Whether they may do what a role may. */
export const may = (role) => ROLES.indexOf(who?.role) >= ROLES.indexOf(role);

/** Why the server refused: a problem as RFC 9457 has it. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `the server answered ${status}`);
    this.status = status;
    this.kind = (problem?.type || '').replace('urn:gapless:problem:', '');
  }
}

/** Asks who sees this page. */
export async function whoAmI() {
  try {
    who = await ask('session');
  } catch (error) {
    if (error.status !== 401) throw error;
    who = null;
  }
}

export async function logIn(name, password) {
  who = await send('POST', 'session', { name, password });
}

export async function logOut() {
  await send('DELETE', 'session');
  who = null;
}

export function ask(path, query = {}, { signal } = {}) {
  return call(`${ROOT}/${path}${asQuery(query)}`, { signal });
}

/** All pages of a list, as far as `most`. */
export async function askAll(path, query = {}, most = 5000) {
  const items = [];
  let after = null;
  do {
    const page = await ask(path, { ...query, after });
    items.push(...page.items);
    after = page.next;
  } while (after && items.length < most);
  return items;
}

export function send(method, path, body) {
  const headers = who?.csrf ? { 'X-CSRF-Token': who.csrf } : {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  return call(`${ROOT}/${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refusal(0, { detail: 'the server cannot be reached: is it running?' });
  }
  const text = await response.text();
  const value = response.headers.get('Content-Type')?.includes('json') && text ? JSON.parse(text) : text;
  if (response.ok) return value;
  if (response.status === 401 && who !== null && !path.endsWith('/session')) {
    who = null;
    document.dispatchEvent(new Event('logged-out'));
  }
  throw new Refusal(response.status, typeof value === 'object' ? value : { detail: text });
}

export function streamPath(key, what = '') {
  return `devices/${encodeURIComponent(key.device)}/streams/${encodeURIComponent(key.stream)}${what && `/${what}`}`;
}

/** Where a file of a range is to be had: `playback.m3u8`, `playback.mp4`, `export.mp4`, `export.json`. */
export function fileOf(key, what, query) {
  return `${ROOT}/${streamPath(key, what)}${asQuery(query)}`;
}

function asQuery(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

/** Does `work` a little after it is first called for, once for all that call until then. */
export function gathered(work, pause, signal) {
  let waits = null;
  return () => {
    waits ??= setTimeout(() => {
      waits = null;
      if (!signal.aborted) work();
    }, pause);
  };
}

const KINDS = ['device', 'timeline', 'progress', 'merged', 'job', 'run', 'at_risk', 'policy', 'lagged'];

/** One connection for all that listen; it comes back by itself, and then says `lagged`: look again at everything. */
class News extends EventTarget {
  open() {
    if (this.source) return;
    this.source = new EventSource(`${ROOT}/events`);
    let wasOpen = false;
    this.source.addEventListener('open', () => {
      if (wasOpen) this.tell('lagged', {});
      wasOpen = true;
      this.tell('link', { up: true });
    });
    this.source.addEventListener('error', () => {
      this.tell('link', { up: false });
      if (this.source?.readyState === EventSource.CLOSED) this.again();
    });
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => this.tell(kind, event.data ? JSON.parse(event.data) : {}));
    }
  }

  again() {
    this.close();
    setTimeout(() => this.open(), 3000);
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /** Listens until `signal` says that the place was left. */
  hear(kinds, listener, signal) {
    for (const kind of kinds) this.addEventListener(kind, (event) => listener(event.detail, kind), { signal });
  }
}

export const news = new News();
