/** One line, only while something is not as it should be: offline, connecting, a part of the messenger missing. */

import { h } from './dom.js';

const DELAY_MS = 1_200; // a connection that is back sooner was never worth a word
const TOO_MANY_SESSIONS = 4503;
const MISSING = {
  aggregator: 'names, search and some actions',
  profiles: 'names and pictures',
  items: 'items',
  presence: 'who is online',
};

export class StatusLine {
  #element = document.getElementById('status');
  #connect;
  #timer = 0;

  /** `connect()`: the user wants to try again. */
  constructor({ connect }) {
    this.#connect = connect;
  }

  render({ degraded }, connection) {
    clearTimeout(this.#timer);
    const line = describe(degraded, connection, navigator.onLine);
    const urgent = connection.name === 'online' || !navigator.onLine || this.#element.textContent;
    if (urgent) this.#write(line);
    else this.#timer = setTimeout(() => this.#write(line), DELAY_MS);
  }

  #write([text, label = '']) {
    if (this.#element.textContent === text + label) return;
    this.#element.replaceChildren(text, label && h('button', { type: 'button', onclick: this.#connect }, label));
  }
}

/** [text, label of a button that connects again?] */
function describe(degraded, { name, code, reason, transport }, onLine) {
  if (name === 'closed' && code === TOO_MANY_SESSIONS) return ['You are signed in in too many windows. ', 'Use this one'];
  if (name === 'closed') return [`The connection was refused${reason ? `: ${reason}` : ''}. `, 'Try again'];
  if (!onLine) return ['You are offline. What you write is sent when you are back.'];
  if (name !== 'online') return ['Connecting…'];
  if (degraded.length) return [`At the moment without ${degraded.map((part) => MISSING[part] ?? part).join(', ')}.`];
  return [transport === 'http' ? 'Connected without WebSocket: messages may take a little longer.' : ''];
}
