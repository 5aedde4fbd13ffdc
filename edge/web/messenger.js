/**
 * The protocol half of a client: one connection that is kept alive, calls as promises, notifications as events.
 * It keeps no chats and draws nothing; see store.js for the first and app.js for the second. With its parts (links.js,
 * gaps.js, rpc.js) it depends on nothing but `WebSocket` and `fetch`, so it works alone:
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

import { Gaps, RecentSet } from './gaps.js';
import { PollLink, SocketLink } from './links.js';
import { CLOSE, CODE, RpcError, backoff, comesBack, failure } from './rpc.js';

export { RpcError, subject } from './rpc.js';

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
    const result = await this.#repeat(method, params, Date.now() + timeoutMs, retry);
    this.#learn(method, result);
    return result;
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
    for (const chatId of this.#gaps.incomplete()) this.#look(chatId); // that could not be read before
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

  async #repeat(method, params, deadline, retry = true) {
    for (let failures = 0; ; failures += 1) {
      try {
        return await this.#request(method, params, deadline);
      } catch (error) {
        const waitMs = (error.retryAfterMs ?? 0) + backoff(failures, this.#options);
        if (!retry || !error.retryable || Date.now() + waitMs >= deadline) throw error;
        await sleep(waitMs);
      }
    }
  }

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
      if (!this.#gaps.missing(chatId).length) return;
      const params = { chat_id: chatId, limit: GAP_PAGE, ...before };
      const { messages = [], has_more: hasMore } = await this.#repeat('messages.history', params, Date.now() + this.#options.callTimeoutMs);
      const missing = new Set(this.#gaps.missing(chatId)); // what was pushed meanwhile has been handed on
      for (const message of messages.filter(({ seq }) => missing.has(seq))) {
        this.#gaps.see(chatId, message.seq);
        this.#emit('message.new', { message });
      }
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

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
