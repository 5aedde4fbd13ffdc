/**
 * The protocol half of a client: one connection that is kept alive, calls as promises, notifications as events.
 * It keeps no chats and draws nothing; see store.js for the first and app.js for the second. It depends on nothing
 * but `WebSocket` and `fetch`, so it works alone:
 *
 *     const messenger = new Messenger({ url: 'http://127.0.0.1:8000', token });
 *     messenger.on('message.new', ({ message }) => console.log(message.text));
 *     const { user_id } = await messenger.connect();
 *     const { chat } = await messenger.call('chats.open', { peer_id: 'bob' });
 *     await messenger.send({ chat_id: chat.chat_id, text: 'Hello', client_msg_id: crypto.randomUUID() });
 *
 * What it promises:
 * - a call is repeated (after a lost connection, a throttle, a part that is down) until it is answered for good or
 *   its time is up; every method of the contract is idempotent, so a repetition has no second effect;
 * - sends to one chat go one after the other, in the order of the calls, also when one of them is throttled;
 * - a notification is handed on once (by `event_id`), and after a reconnect those that were missed follow;
 * - a hole in a chat's `seq` is filled by `messages.history`: what was missing comes late, as `message.new` without `event_id`;
 * - `resync` says that what was handed on may have holes that nothing will fill: ask for the state again.
 *
 * Events, besides the notifications of the contract under their own names: `state` (see `Messenger.state`),
 * `session` (the result of each session.connect), `resync` (`{}` for everything, `{chat_id}` for one chat).
 */

const CODE = {
  DEADLINE: -32004,
  THROTTLED: -32008,
  UNAVAILABLE: -32014,
  UNAUTHENTICATED: -32016,
  REFUSED: -32600,
  INTERNAL: -32603,
};
const CLOSE = { LOST: 1006, BAD_PROTOCOL: 4500, NOT_AUTHENTICATED: 4501, TOKEN_EXPIRED: 4502 };

const DEFAULTS = {
  url: undefined, // the messenger's address, with its scheme; in a page: the page's own
  token: '',
  refresh: null, // async () => a younger token, or '' when there is none
  callTimeoutMs: 15_000,
  sendTimeoutMs: 60_000,
  openTimeoutMs: 8_000,
  silenceMs: 40_000, // of the server, before the client asks whether it is still there
  gapGraceMs: 400, // for a hole in `seq` to close by itself: pushes overtake each other
  backoffMs: 1_000,
  backoffMaxMs: 30_000,
  stableMs: 10_000, // a connection that lived as long wipes out the failures before it
  pollWaitS: 25,
  pollMs: 30_000, // on HTTP, before WebSocket is tried again; doubles with every failure
  pollMaxMs: 600_000,
  WebSocket: globalThis.WebSocket,
  fetch: globalThis.fetch?.bind(globalThis),
  random: Math.random,
};

const GAP_PAGE = 100;
const GAP_PAGES = 5;
const REMEMBERED_EVENTS = 2_000;

/** An error answer. `retryable` and `retryAfterMs` are the server's word; CLIENT_* reasons are made here. */
export class RpcError extends Error {
  constructor(message, { code, reason = '', retryable = false, retryAfterMs = 0, traceId = '' }) {
    super(message);
    this.name = 'RpcError';
    Object.assign(this, { code, reason, retryable, retryAfterMs, traceId });
  }

  /** Of a JSON-RPC error object. A throttled call may always be repeated. */
  static of({ code, message, data }) {
    const { reason, retryable, retry_after_ms: retryAfterMs, trace_id: traceId } = data ?? {};
    return new RpcError(message, { code, reason, retryable: retryable || code === CODE.THROTTLED, retryAfterMs, traceId });
  }
}

/** Whether a client comes back by itself after this WebSocket close code: all but 4500..4999. */
export const comesBack = (code) => code < 4500 || code > 4999;

/**
 * Milliseconds to wait before attempt number `failures + 1`: exponential with full jitter, so that the clients of a
 * dead server do not come back as one ("Exponential Backoff And Jitter", AWS Architecture Blog).
 */
export function backoff(failures, { backoffMs, backoffMaxMs, random }) {
  return random() * Math.min(backoffMaxMs, backoffMs * 2 ** Math.max(0, failures));
}

/** A set that forgets its oldest members beyond `limit`. */
export class RecentSet {
  #members = new Set();
  #limit;

  constructor(limit) {
    this.#limit = limit;
  }

  /** Returns whether the member is new. */
  add(member) {
    if (this.#members.has(member)) return false;
    this.#members.add(member);
    if (this.#members.size > this.#limit) this.#members.delete(this.#members.values().next().value);
    return true;
  }
}

/** Which messages a client holds of each chat, by `seq`. What it has never heard of a chat is no gap. */
export class Gaps {
  #chats = new Map(); // chat_id -> {head: held up to here without a hole, ahead: held beyond, top: known to exist}

  /** The message is held. */
  see(chatId, seq) {
    const chat = this.#chat(chatId, seq);
    if (seq > chat.head) chat.ahead.add(seq);
    while (chat.ahead.delete(chat.head + 1)) chat.head += 1;
    chat.top = Math.max(chat.top, seq);
  }

  /** The chat's newest message has this seq, held or not. */
  expect(chatId, seq) {
    const chat = this.#chat(chatId, seq);
    chat.top = Math.max(chat.top, seq);
  }

  /** The seqs that exist and are not held, ascending. */
  missing(chatId) {
    const { head, ahead, top } = this.#chats.get(chatId) ?? { head: 0, ahead: new Set(), top: 0 };
    const between = Array.from({ length: top - head }, (_, i) => head + 1 + i);
    return between.filter((seq) => !ahead.has(seq));
  }

  knows(chatId) {
    return this.#chats.has(chatId);
  }

  /** Forgets one chat, or all. */
  forget(chatId) {
    if (chatId) this.#chats.delete(chatId);
    else this.#chats.clear();
  }

  #chat(chatId, seq) {
    if (!this.#chats.has(chatId)) this.#chats.set(chatId, { head: seq, ahead: new Set(), top: seq });
    return this.#chats.get(chatId);
  }
}

export class Messenger {
  #options;
  #token;
  #userId = '';
  #cursor = '';
  #state = { name: 'closed' };
  #running = false;
  #link = null;
  #online = false;
  #returnAt = 0;
  #pollMs;
  #wake = () => {};
  #nextId = 1;
  #requests = new Map();
  #lanes = new Map();
  #seen = new RecentSet(REMEMBERED_EVENTS);
  #gaps = new Gaps();
  #filling = new Set();
  #listeners = new Map();

  /** Takes any of `DEFAULTS`; `token` is needed. */
  constructor(options) {
    this.#options = { ...DEFAULTS, url: globalThis.location?.origin, ...options };
    this.#options.url = new URL(this.#options.url).href.replace(/\/$/, '');
    this.#token = this.#options.token;
    this.#pollMs = this.#options.pollMs;
  }

  /**
   * `{name, ...}`, with name one of
   * - `connecting`;
   * - `online`, with `transport`: `websocket` or `http`;
   * - `waiting`: will come back at `retryAt` (ms since 1970);
   * - `closed`: for good, with the WebSocket close `code` and `reason` where the server asked for it.
   */
  get state() {
    return this.#state;
  }

  /** The user that the token speaks for; empty before the first session. */
  get userId() {
    return this.#userId;
  }

  /** Listens to an event; returns what stops it. */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name).delete(listener);
  }

  /** Connects, and stays connected until `close`. Resolves with the first session; fails when it is refused for good. */
  connect() {
    if (this.#running) throw new Error('connect: already connected; call close first');
    this.#running = true;
    const first = new Promise((resolve, reject) => {
      const off = [
        this.on('session', (session) => (off.forEach((stop) => stop()), resolve(session))),
        this.on('state', (state) => {
          if (state.name !== 'closed') return;
          off.forEach((stop) => stop());
          reject(RpcError.of(failure(CODE.UNAUTHENTICATED, `CLIENT_CLOSED_${state.code}`, state.reason || 'Closed')));
        }),
      ];
    });
    this.#run();
    return first;
  }

  /** Leaves. Calls that are not answered yet fail. */
  close() {
    this.#stop({ code: 1000, reason: '' });
  }

  /** Says that the network or the user is back: waits no longer, or looks whether the connection is still alive. */
  wake() {
    this.#wake();
    if (this.#online) this.#link.check();
  }

  /**
   * Calls a method of the contract; repeats it as long as that may help and `timeoutMs` allows.
   * Throws `RpcError`. `retry: false` is for calls that are not worth repeating.
   */
  async call(method, params = {}, { timeoutMs = this.#options.callTimeoutMs, retry = true } = {}) {
    const deadline = Date.now() + timeoutMs;
    for (let failures = 0; ; failures += 1) {
      try {
        const result = await this.#request(method, params, deadline);
        this.#learn(method, result);
        return result;
      } catch (error) {
        const waitMs = (error.retryAfterMs ?? 0) + backoff(failures, this.#options);
        if (!retry || !error.retryable || Date.now() + waitMs >= deadline) throw error;
        await sleep(waitMs);
      }
    }
  }

  /** `messages.send`, after the sends to the same chat that were called before. Arguments and result are the contract's. */
  send(params) {
    const submittedAt = Date.now();
    const lane = this.#lanes.get(params.chat_id) ?? Promise.resolve();
    const sent = lane.then(() => {
      const timeoutMs = submittedAt + this.#options.sendTimeoutMs - Date.now();
      return this.call('messages.send', params, { timeoutMs });
    });
    const settled = sent.catch(() => {}).then(() => {
      if (this.#lanes.get(params.chat_id) === settled) this.#lanes.delete(params.chat_id);
    });
    this.#lanes.set(params.chat_id, settled);
    return sent;
  }

  // --- the connection ------------------------------------------------------------------------------------------------

  async #run() {
    for (let failures = 0; this.#running; ) {
      this.#setState({ name: 'connecting' });
      const ended = await this.#session();
      if (!this.#running) return;
      if (!comesBack(ended.code) && !(await this.#renew(ended.code))) return void this.#stop(ended);
      if (ended.livedMs > this.#options.stableMs) failures = 0;
      const waitMs = ended.waitMs ?? backoff(failures, this.#options);
      failures += 1;
      if (waitMs > 0) await this.#pause(waitMs);
    }
  }

  /** One session from beginning to end: on a WebSocket, or on HTTP where a WebSocket cannot be opened. */
  async #session() {
    const ended = await this.#live(new SocketLink(this.#options, this.#receive));
    if (ended.opened || !this.#running) return ended;
    const polled = await this.#live(new PollLink({ ...this.#options, pollMs: this.#pollMs }, this.#receive));
    if (polled.opened) this.#pollMs = Math.min(this.#options.pollMaxMs, this.#pollMs * 2);
    return polled;
  }

  async #live(link) {
    this.#link = link;
    this.#returnAt = 0;
    const startedAt = Date.now();
    const session = await link.start(this.#token, this.#cursor);
    if (session) this.#begin(link, session);
    const ended = await link.ended;
    this.#online = false;
    const waitMs = this.#returnAt ? Math.max(0, this.#returnAt - Date.now()) : ended.waitMs;
    return { ...ended, waitMs, livedMs: session ? Date.now() - startedAt : 0 };
  }

  #begin(link, session) {
    const lost = this.#cursor && !session.recovered;
    if (!this.#cursor || lost) this.#cursor = session.last_event_id ?? '';
    if (lost) this.#gaps.forget();
    if (link.transport === 'websocket') this.#pollMs = this.#options.pollMs;
    this.#userId = session.user_id;
    this.#online = true;
    for (const { request } of this.#requests.values()) link.send(request);
    this.#setState({ name: 'online', transport: link.transport });
    this.#emit('session', session);
    if (lost) this.#emit('resync', {});
  }

  /** Gets a younger token; says whether there is one. */
  async #renew(code = CLOSE.TOKEN_EXPIRED) {
    if (code !== CLOSE.NOT_AUTHENTICATED && code !== CLOSE.TOKEN_EXPIRED) return false;
    const token = await this.#options.refresh?.().catch(() => '');
    if (!token || token === this.#token) return false;
    this.#token = token;
    return true;
  }

  async #refresh() {
    if (await this.#renew()) await this.call('session.refresh', { token: this.#token }).catch(() => {});
  }

  #pause(waitMs) {
    this.#setState({ name: 'waiting', retryAt: Date.now() + waitMs });
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#wake = () => (clearTimeout(timer), resolve());
    }).finally(() => (this.#wake = () => {}));
  }

  #stop({ code, reason }) {
    if (!this.#running) return;
    this.#running = false;
    this.#online = false;
    this.#link?.close();
    this.#wake();
    const error = failure(CODE.UNAVAILABLE, 'CLIENT_CLOSED', 'The connection was closed');
    for (const { settle } of [...this.#requests.values()]) settle({ error });
    this.#setState({ name: 'closed', code, reason });
  }

  // --- frames --------------------------------------------------------------------------------------------------------

  #request(method, params, deadline) {
    if (!this.#running) throw RpcError.of(failure(CODE.UNAVAILABLE, 'CLIENT_CLOSED', 'Not connected: call connect first'));
    return new Promise((resolve, reject) => {
      const request = { jsonrpc: '2.0', id: this.#nextId++, method, params };
      const settle = ({ result, error }) => {
        clearTimeout(timer);
        this.#requests.delete(request.id);
        if (error) reject(RpcError.of(error));
        else resolve(result);
      };
      const late = () => settle({ error: failure(CODE.DEADLINE, 'CLIENT_TIMEOUT', `No answer to ${method} in time`) });
      const timer = setTimeout(late, Math.max(0, deadline - Date.now()));
      this.#requests.set(request.id, { request, settle });
      if (this.#online) this.#link.send(request);
    });
  }

  #receive = (frame) => {
    if (frame.method) this.#notify(frame.method, frame.params ?? {});
    else this.#requests.get(frame.id)?.settle(frame);
  };

  #notify(method, params) {
    const { event_id: eventId } = params;
    if (eventId && !this.#seen.add(eventId)) return;
    this.#emit(method, params);
    if (eventId) this.#cursor = eventId;
    if (method === 'message.new') this.#held(params.message);
    if (method === 'chat.updated') this.#exists(params.chat);
    if (method === 'session.expiring') this.#refresh();
    if (method === 'session.reconnect') this.#leave(params.after_ms ?? 0);
  }

  /** The edge goes away: be on another one before it does. */
  #leave(afterMs) {
    const link = this.#link;
    this.#returnAt = Date.now() + afterMs;
    setTimeout(() => link.close(), afterMs);
  }

  // --- holes ---------------------------------------------------------------------------------------------------------

  #learn(method, result) {
    for (const chat of result.chats ?? (result.chat ? [result.chat] : [])) this.#exists(chat);
    if (method === 'messages.send') this.#held(result.message);
    if (method !== 'messages.history') return;
    for (const { chat_id: chatId, seq } of result.messages ?? []) if (this.#gaps.knows(chatId)) this.#gaps.see(chatId, seq);
  }

  #held({ chat_id: chatId, seq }) {
    this.#gaps.see(chatId, seq);
    this.#look(chatId);
  }

  #exists({ chat_id: chatId, seq = 0 }) {
    this.#gaps.expect(chatId, seq);
    this.#look(chatId);
  }

  #look(chatId) {
    if (this.#filling.has(chatId) || !this.#gaps.missing(chatId).length) return;
    this.#filling.add(chatId);
    const done = () => this.#filling.delete(chatId);
    sleep(this.#options.gapGraceMs).then(() => this.#fill(chatId)).then(done, done);
  }

  /** Newest page first: `seq` is not quite the order of message_id, for what I send overtakes what is on its way to me. */
  async #fill(chatId) {
    let before;
    for (let page = 0; page < GAP_PAGES; page += 1) {
      const missing = new Set(this.#gaps.missing(chatId));
      if (!missing.size) return;
      const params = { chat_id: chatId, limit: GAP_PAGE, ...before };
      const { messages = [], has_more: hasMore } = await this.call('messages.history', params);
      for (const message of messages) if (missing.has(message.seq)) this.#emit('message.new', { message });
      if (!hasMore || !messages.length) break;
      before = { before: messages[0].message_id };
    }
    if (!this.#gaps.missing(chatId).length) return;
    this.#gaps.forget(chatId);
    this.#emit('resync', { chat_id: chatId });
  }

  #setState(state) {
    this.#state = state;
    this.#emit('state', state);
  }

  /** A listener's exception is its own: it is reported as uncaught and stops nothing here. */
  #emit(name, params) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(params);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}

/*
 * A link carries frames one session long:
 *   start(token, cursor)  the session, or null when the link has ended before there was one
 *   send(request)         its answer comes to `receive`, or the link ends
 *   check()               looks whether the other side is still there
 *   close()               ends it
 *   ended                 promise of {code, reason, opened, waitMs?}; `opened` false: this kind of link does not get through
 */
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

class SocketLink extends Link {
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

class PollLink extends Link {
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

const failure = (code, reason, message, more = {}) => ({ code, message, data: { reason, ...more } });

function httpFailure(response) {
  const known = { 413: CODE.REFUSED, 429: CODE.THROTTLED, 503: CODE.UNAVAILABLE }[response.status];
  const retryable = known === CODE.THROTTLED || known === CODE.UNAVAILABLE;
  const more = { retryable, retry_after_ms: retryAfter(response) };
  return failure(known ?? CODE.INTERNAL, `HTTP_${response.status}`, `HTTP ${response.status}`, more);
}

const retryAfter = (response) => 1_000 * (Number(response.headers.get('Retry-After')) || 0);

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** The user id that a JWT speaks for, unchecked: the server checks. */
export function subject(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).sub ?? '';
  } catch {
    return '';
  }
}
