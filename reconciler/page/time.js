// Instants are milliseconds since 1970 here; the server's have nanoseconds, which nobody sees on a screen.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const parse = (text) => (text ? Date.parse(text) : null);
export const asText = (instant) => new Date(instant).toISOString();

let inUtc = localStorage.getItem('zone') === 'utc';
export const isUtc = () => inUtc;
export function useUtc(yes) {
  inUtc = yes;
  localStorage.setItem('zone', yes ? 'utc' : 'local');
  document.dispatchEvent(new Event('zone'));
}
export const zoneName = () => (inUtc ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone || 'local time');

/** The parts of an instant in the zone that is shown. */
function parts(instant) {
  const date = new Date(instant);
  const of = (name) => (inUtc ? date[`getUTC${name}`]() : date[`get${name}`]());
  return { year: of('FullYear'), month: of('Month'), day: of('Date'), hour: of('Hours'), minute: of('Minutes'),
    second: of('Seconds'), milli: of('Milliseconds') };
}

function of(year, month, day = 1, hour = 0, minute = 0, second = 0, milli = 0) {
  return inUtc ? Date.UTC(year, month, day, hour, minute, second, milli)
    : new Date(year, month, day, hour, minute, second, milli).getTime();
}

const two = (number) => String(number).padStart(2, '0');
export const dayOf = (instant) => {
  const { year, month, day } = parts(instant);
  return `${year}-${two(month + 1)}-${two(day)}`;
};
export const clockOf = (instant, { millis = false } = {}) => {
  const { hour, minute, second, milli } = parts(instant);
  const tail = millis ? `.${String(milli).padStart(3, '0')}` : '';
  return `${two(hour)}:${two(minute)}:${two(second)}${tail}`;
};
export const instantOf = (instant, options) => (instant === null ? 'never'
  : `${dayOf(instant)} ${clockOf(instant, options)}`);

/** What a person types: `2026-11-23 10:00:05`, in the zone that is shown; null where it is none. */
export function read(text) {
  const match = /^\s*(\d{4})-(\d{1,2})-(\d{1,2})[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?\s*$/.exec(text);
  if (!match) return Number.isNaN(Date.parse(text)) ? null : Date.parse(text);
  const [year, month, day, hour, minute, second = '0', milli = '0'] = match.slice(1);
  return of(+year, +month - 1, +day, +hour, +minute, +second, +milli.padEnd(3, '0'));
}

/** `1 h 05 min`, `45 s`, `0.4 s`: two units at most. */
export function lengthOf(seconds) {
  if (seconds < 9.95) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([size]) => whole >= size);
  const [size, name] = units[first];
  const rest = whole % size;
  const next = units[first + 1];
  const small = next ? Math.floor(rest / next[0]) : 0;
  return small ? `${Math.floor(whole / size)} ${name} ${small} ${next[1]}` : `${Math.floor(whole / size)} ${name}`;
}

/** `in 3 min`, `2 h ago`. */
export function fromNow(instant) {
  if (instant === null) return 'never';
  const seconds = (instant - Date.now()) / 1000;
  if (Math.abs(seconds) < 2) return 'now';
  return seconds > 0 ? `in ${lengthOf(seconds)}` : `${lengthOf(-seconds)} ago`;
}

export function sizeOf(bytes) {
  if (bytes === null || bytes === undefined) return 'unknown size';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

const STEPS = [SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE,
  10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY];

/** Where an axis of so many marks has them, with their words: `[[instant, label, isDay]]`. */
export function marks(from, to, most) {
  const step = STEPS.find((candidate) => (to - from) / candidate <= most);
  if (!step) return months(from, to);
  const { year, month, day } = parts(from);
  const midnight = of(year, month, step > DAY ? day - ((day - 1) % (step / DAY)) : day);
  const found = [];
  // Counted from each midnight, so that a change of clocks within shifts no mark.
  for (let start = midnight; start < to; start = nextDay(start, Math.max(1, step / DAY))) {
    const end = Math.min(nextDay(start, 1), to);
    for (let at = start; at < end; at += step) {
      if (at >= from) found.push([at, at === start ? dayOf(at) : label(at, step), at === start]);
      if (step >= DAY) break;
    }
  }
  return found;
}

function nextDay(midnight, days) {
  const { year, month, day } = parts(midnight);
  return of(year, month, day + days);
}

function months(from, to) {
  const { year, month } = parts(from);
  const found = [];
  for (let ahead = 0; of(year, month + ahead) < to; ahead += 1) {
    const at = of(year, month + ahead);
    if (at >= from) found.push([at, dayOf(at).slice(0, 7), true]);
  }
  return found;
}

const label = (instant, step) => (step < MINUTE ? clockOf(instant) : clockOf(instant).slice(0, 5));
