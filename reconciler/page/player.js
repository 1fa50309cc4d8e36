// The player: a range of the merged timeline in the browser's own <video>.
//
// HLS where the browser plays it by itself, else the same range as one MP4. The playlist tells which instant each
// moment of it shows, so that the playhead moves on the timeline, and jumps over what is not there.

import { element, notice } from './dom.js';
import { fileOf } from './server.js';
import { SECOND, asText, instantOf, parse } from './time.js';

/** So much is asked for at once; what follows is loaded when it is near. */
const LENGTH = 30 * 60 * SECOND;

export class Player {
  /** `moved(instant)` is told what is shown. */
  constructor(key, moved) {
    this.key = key;
    this.moved = moved;
    this.video = element('video', { controls: true, playsinline: true, muted: true, preload: 'auto' });
    this.clock = element('output', { class: 'shown' }, '');
    this.element = element('figure', { class: 'player', hidden: true }, this.video, element('figcaption', {}, this.clock));
    this.spans = [];
    for (const happens of ['timeupdate', 'seeking', 'seeked', 'pause']) this.video.addEventListener(happens, () => this.tell());
    this.video.addEventListener('error', () => this.fail());
    this.video.addEventListener('ended', () => this.goOn());
  }

  /** Plays from an instant on; where nothing is archived, from the next instant that is. */
  async play(instant) {
    const inside = this.momentOf(instant);
    this.element.hidden = false;
    if (inside !== null) {
      this.video.currentTime = inside;
      return this.begin();
    }
    const query = { from: asText(instant), to: asText(instant + LENGTH) };
    const playlist = fileOf(this.key, 'playback.m3u8', query);
    const response = await fetch(playlist);
    if (!response.ok) throw new Error((await response.json()).detail);
    this.spans = spansOf(await response.text());
    this.wanted = instant;
    this.playsHls = this.video.canPlayType('application/vnd.apple.mpegurl') !== '' && !this.hlsFailed;
    if (!this.playsHls) this.spans = asOneFile(this.spans);
    this.query = query;
    this.video.src = this.playsHls ? playlist : fileOf(this.key, 'playback.mp4', query);
    this.video.addEventListener('loadedmetadata', () => {
      const moment = this.momentOf(this.wanted);
      if (moment > 0) this.video.currentTime = moment;
    }, { once: true });
    return this.begin();
  }

  async begin() {
    try {
      await this.video.play();
    } catch (error) {
      // Another range was asked for meanwhile, or the browser waits for the person to press play.
      if (error.name !== 'AbortError' && error.name !== 'NotAllowedError') throw error;
    }
  }

  fail() {
    if (this.video.error === null || !this.video.currentSrc) return;
    if (this.playsHls) {
      // Once and for all: the same range as one MP4.
      this.hlsFailed = true;
      this.spans = [];
      this.play(this.wanted).catch((error) => notice(error.message, { kind: 'refused' }));
      return;
    }
    notice(`this range cannot be played here (${this.video.error.message || 'codec not known to this browser'}): export it instead`,
      { kind: 'refused' });
  }

  goOn() {
    const last = this.spans.at(-1);
    if (last) this.play(last.starts_at + last.seconds * 1000 + 1).catch(() => {});
  }

  tell() {
    const instant = this.instantOf(this.video.currentTime);
    if (instant === null) return;
    this.clock.textContent = instantOf(instant, { millis: true });
    this.moved(instant);
  }

  /** What a moment of the video shows; null before anything is known. */
  instantOf(moment) {
    const span = this.spans.findLast((candidate) => candidate.moment <= moment + 1e-3) ?? this.spans[0];
    return span ? span.starts_at + (moment - span.moment) * 1000 : null;
  }

  /** The moment at which an instant is shown, or the next one that is; null where it is not in what is loaded. */
  momentOf(instant) {
    const span = this.spans.find((candidate) => instant < candidate.starts_at + candidate.seconds * 1000);
    const first = this.spans[0];
    if (!span || instant < Math.min(first.starts_at, this.wanted ?? first.starts_at)) return null;
    return span.moment + Math.max(instant - span.starts_at, 0) / 1000;
  }

  stop() {
    this.video.removeAttribute('src');
    this.video.load();
    this.element.hidden = true;
    this.spans = [];
  }
}

/** The gap-free spans of a media playlist (RFC 8216): `{ moment, seconds, starts_at }`, in its order. */
export function spansOf(playlist) {
  const spans = [];
  let moment = 0;
  let length = 0;
  let starts = null;
  let isGap = false;
  for (const line of playlist.split('\n').map((text) => text.trim())) {
    if (line.startsWith('#EXTINF:')) length = parseFloat(line.slice(8));
    else if (line.startsWith('#EXT-X-PROGRAM-DATE-TIME:')) starts = parse(line.slice(25));
    else if (line === '#EXT-X-GAP') isGap = true;
    else if (line && !line.startsWith('#')) {
      const last = spans.at(-1);
      if (!isGap && starts === null && last) last.seconds += length;
      else if (!isGap && starts !== null) spans.push({ moment, seconds: length, starts_at: starts });
      moment += length;
      starts = null;
      isGap = false;
    }
  }
  return spans;
}

/** In one MP4 a hole keeps its length. */
function asOneFile(spans) {
  const first = spans[0];
  return first ? spans.map((span) => ({ ...span, moment: (span.starts_at - first.starts_at) / 1000 })) : [];
}
