/**
 * Links: what carries frames between a client and the messenger, one session long. A WebSocket, or HTTP where none gets through.
 *
 *   start(token, cursor)  the session, or null when the link has ended before there was one
 *   send(request)         its answer comes to `receive`, or the link ends
 *   check()               looks whether the other side is still there
 *   close()               ends it
 *   ended                 promise of {code, reason, opened, waitMs?}; `opened` false: this kind of link does not get through
 */

import { CLOSE, CODE, RpcError, failure, subject } from './rpc.js';

class Link {
  opened = false;
  over = false;
  end; // (code, reason, more): the first one counts
  ended = new Promise((resolve) => {
    this.end = (code, reason = '', more = {}) => {
      if (this.over) return;
      this.over = true;
      resolve({ code, reason, opened: this.opened, ...more });
    };
  });

  constructor(options, receive) {
    this.options = options;
    this.receive = (frame) => receive(frame);
  }
}

export class SocketLink extends Link {
  transport = 'websocket';
  #socket;
  #timer;

  async start(token, cursor) {
    const { url, openTimeoutMs, WebSocket } = this.options;
    const greeting = new Promise((resolve) => {
      this.#socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws`);
      this.#socket.onopen = () => {
        this.opened = true;
        const params = { token, ...(cursor && { last_event_id: cursor }) };
        this.send({ jsonrpc: '2.0', id: 'connect', method: 'session.connect', params });
      };
      this.#socket.onmessage = ({ data }) => this.#frame(JSON.parse(data), resolve);
      this.#socket.onclose = ({ code, reason }) => this.#finish(code, reason);
      this.#timer = setTimeout(() => this.close('No answer'), openTimeoutMs);
    });
    return Promise.race([greeting, this.ended.then(() => null)]);
  }

  send(request) {
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(request));
  }

  /** A dead network does not close a socket: whoever hears nothing must ask. */
  check() {
    this.send({ jsonrpc: '2.0', id: 'ping', method: 'session.ping', params: {} });
    this.#wait(() => this.close('No answer'), this.options.openTimeoutMs);
  }

  close(reason = '') {
    this.#finish(CLOSE.LOST, reason);
    this.#socket?.close();
  }

  #frame(frame, resolve) {
    this.#wait(() => this.check(), this.options.silenceMs);
    if (frame.id !== 'connect') return void this.receive(frame);
    if (!frame.error) return void resolve(frame.result);
    const error = RpcError.of(frame.error);
    const code = error.code === CODE.UNAUTHENTICATED ? CLOSE.NOT_AUTHENTICATED : CLOSE.BAD_PROTOCOL;
    const mayPass = error.retryable || error.code === CODE.INTERNAL;
    this.#finish(mayPass ? CLOSE.LOST : code, error.message, { waitMs: error.retryAfterMs || undefined });
    this.#socket.close();
  }

  #wait(then, ms) {
    clearTimeout(this.#timer);
    if (!this.over) this.#timer = setTimeout(then, ms);
  }

  #finish(code, reason, more) {
    clearTimeout(this.#timer);
    this.end(code, reason, more);
  }
}

export class PollLink extends Link {
  transport = 'http';
  #token;
  #cursor;
  #stop = new AbortController();

  async start(token, cursor) {
    this.#token = token;
    this.#cursor = cursor;
    const page = await this.#poll(0);
    if (!page) return null;
    this.opened = true;
    setTimeout(() => this.#deliver(page)); // after the session has begun
    return { user_id: subject(token), last_event_id: page.last_event_id, recovered: page.recovered };
  }

  async send(request) {
    const response = await this.#fetch('/rpc', { method: 'POST', body: JSON.stringify(request) });
    if (!response) return;
    const answer = await response.json().catch(() => ({}));
    const understood = answer.result || answer.error;
    this.receive(understood ? { ...answer, id: request.id } : { id: request.id, error: httpFailure(response) });
  }

  check() {}

  close() {
    this.end(CLOSE.LOST);
    this.#stop.abort();
  }

  async #deliver(page) {
    const until = Date.now() + this.options.pollMs;
    for (let next = page; next; next = Date.now() < until ? await this.#poll(this.options.pollWaitS) : null) {
      if (next !== page && !next.recovered) return this.end(CLOSE.LOST); // the next session begins with that, and says so
      this.#cursor = next.last_event_id || this.#cursor;
      (next.events ?? []).forEach(this.receive);
    }
    this.end(CLOSE.LOST, 'WebSocket is tried again', { waitMs: 0 });
  }

  async #poll(waitS) {
    const after = this.#cursor ? `&after=${encodeURIComponent(this.#cursor)}` : '';
    const response = await this.#fetch(`/events?wait=${waitS}${after}`, { signal: this.#stop.signal });
    const page = response?.ok ? await response.json().catch(() => null) : null;
    if (response && !page) this.end(CLOSE.LOST, `HTTP ${response.status}`, { waitMs: retryAfter(response) || undefined });
    return page;
  }

  /** The response, or null when it ended the link. */
  async #fetch(path, init) {
    const { fetch, url } = this.options;
    const headers = { Authorization: `Bearer ${this.#token}`, 'Content-Type': 'application/json' };
    const response = await fetch(url + path, { ...init, headers, cache: 'no-store' }).catch(() => null);
    if (response && ![401, 502, 504].includes(response.status)) return response;
    const code = response?.status === 401 ? CLOSE.NOT_AUTHENTICATED : CLOSE.LOST;
    this.end(code, response ? `HTTP ${response.status}` : 'No connection');
    return null;
  }
}

function httpFailure(response) {
  const known = { 413: CODE.REFUSED, 429: CODE.THROTTLED, 503: CODE.UNAVAILABLE }[response.status];
  const retryable = known === CODE.THROTTLED || known === CODE.UNAVAILABLE;
  const more = { retryable, retry_after_ms: retryAfter(response) };
  return failure(known ?? CODE.INTERNAL, `HTTP_${response.status}`, `HTTP ${response.status}`, more);
}

const retryAfter = (response) => 1_000 * (Number(response.headers.get('Retry-After')) || 0);
