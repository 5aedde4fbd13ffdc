/**
 * What the pages act on: asks the messenger, folds what comes back into the store's state, and says that it changed.
 * No DOM. What the user writes is in outgoing.js; this is what comes in: loading, catching up, receipts, who is there.
 */

import { Outgoing } from './outgoing.js';
import { chatList, indexAfter, heldMessages, unread } from './selectors.js';
import { initialState, reduce } from './store.js';

const HISTORY_PAGE = 50;
const MAX_PAGE = 100;
const CHATS_PAGE = 30;
const PRESENCE_PAGE = 100;
const TYPING_MS = 5_000;
const DELIVERED_MS = 150; // a burst of messages is one receipt
const DEGRADED_MS = 15_000;
const BEGINNING = '00000000-0000-0000-0000-000000000000';

export class Model {
  /** What could not be loaded: 'chats' or a chat_id -> the error. */
  failures = new Map();
  /** What the user sends and changes: see `Outgoing`. */
  outgoing;
  #messenger;
  #changed;
  #state;
  #shown = '';
  #loading = new Map(); // key -> what is being loaded
  #marks = { read: new Map(), delivered: new Map() }; // chat_id -> up to where, not confirmed by the server yet
  #telling = new Set();
  #timers = new Map();
  #watched = new Set();

  /** `session`, `local`: like sessionStorage and localStorage. `changed`: called after every change of `state`, `connection` or `failures`. */
  constructor({ messenger, me, session, local, changed }) {
    this.#messenger = messenger;
    this.#changed = changed;
    this.#state = initialState(me);
    const dispatch = (action) => this.#dispatch(action);
    this.outgoing = new Outgoing({ messenger, session, local, state: () => this.#state, dispatch });
    this.outgoing.restore();
  }

  get state() {
    return this.#state;
  }

  get connection() {
    return this.#messenger.state;
  }

  start() {
    const on = (name, listener) => this.#messenger.on(name, listener);
    const fold = (name) => on(name, (event) => this.#dispatch({ type: name, ...event }));
    on('state', () => this.#changed());
    on('session', () => this.#catchUp());
    on('resync', ({ chat_id: chatId }) => this.#resync(chatId));
    on('message.new', ({ message }) => this.#received(message));
    on('chat.updated', (event) => this.#updated(event));
    on('typing', (event) => this.#typing(event));
    on('presence', (event) => this.#dispatch({ type: 'presence', presence: [event] }));
    for (const name of ['message.updated', 'message.deleted', 'receipt.read', 'receipt.delivered']) fold(name);
    return this.#messenger.connect();
  }

  /** Lets go of everything that would still happen by itself. */
  stop() {
    this.#messenger.close();
    this.#timers.forEach(clearTimeout);
  }

  /** Opens the chat with a user, about an item where one is given; returns its chat_id. */
  async open(peerId, itemId) {
    const params = { peer_id: peerId, ...(itemId && { item_id: itemId }) };
    const result = await this.#messenger.call('chats.open', params);
    this.#dispatch({ type: 'chat', ...result });
    this.#watch();
    return result.chat.chat_id;
  }

  /** The conversation that is looked at, '' for none: what it needs is loaded, now and after every reconnect. */
  async show(chatId) {
    this.#shown = chatId;
    if (!chatId) return;
    if (!this.#state.chats[chatId]) await this.#loadChat(chatId);
    if (this.#state.chats[chatId] && !this.#state.history[chatId]) await this.#loadConversation(chatId);
  }

  /** Has a message of the chat and those around it loaded, wherever in the past it is. */
  async showMessage(chatId, messageId) {
    await this.#loading.get(chatId);
    const held = this.#state.history[chatId] && heldMessages(this.#state, chatId);
    if (held && held[indexAfter(held, messageId) - 1]?.message_id === messageId) return;
    await this.#loadAround(chatId, messageId);
  }

  /** Has the end of the conversation loaded. */
  async showNewest(chatId) {
    await this.#loading.get(chatId);
    if (this.#state.history[chatId]?.until) await this.#loadHistory(chatId);
  }

  loadMoreChats() {
    if (this.#state.nextCursor) this.#loadChats(this.#state.nextCursor);
  }

  loadOlder(chatId) {
    const oldest = this.#state.messages[chatId]?.[0];
    if (this.#state.history[chatId]?.hasMore && oldest) this.#loadHistory(chatId, { before: oldest.message_id });
  }

  loadNewer(chatId) {
    const until = this.#state.history[chatId]?.until;
    if (until) this.#loadHistory(chatId, { after: until });
  }

  /** Loads again what could not be loaded. */
  retryLoading() {
    this.failures.clear();
    this.#catchUp();
  }

  /** A page of the messages with this text, newest first; in one chat, or '' for all. Throws `RpcError`. */
  async search(query, chatId, cursor) {
    const params = { query, ...(chatId && { chat_id: chatId }), ...(cursor && { cursor }) };
    const { messages = [], next_cursor: nextCursor = '' } = await this.#messenger.call('messages.search', params);
    for (const message of messages) if (!this.#state.chats[message.chat_id]) this.#loadChat(message.chat_id);
    return { messages, nextCursor };
  }

  /** The user has seen the chat up to this message. */
  markRead(chatId, upTo) {
    const chat = this.#state.chats[chatId];
    if (!chat || upTo <= chat.read_up_to) return;
    this.#dispatch({ type: 'receipt.read', chat_id: chatId, user_id: this.#state.me, up_to: upTo });
    this.#mark('read', chatId, upTo);
  }

  /** Asks who of the people in the list is there, and to be told of changes for the next minutes. */
  watchPeople() {
    this.#watched.clear();
    this.#watch();
  }

  /** Keeps a person from writing to the user, or lets the person write again. Throws `RpcError`. */
  async setBlocked(userId, blocked) {
    await this.#messenger.call(blocked ? 'users.block' : 'users.unblock', { user_id: userId });
    this.#dispatch({ type: 'blocked', user_id: userId, blocked });
    if (!blocked) this.watchPeople();
  }

  // --- loading -------------------------------------------------------------------------------------------------------

  #catchUp() {
    if (this.#state.nextCursor === null) this.#loadChats();
    this.show(this.#shown);
    this.watchPeople();
    for (const kind of ['read', 'delivered']) for (const chatId of this.#marks[kind].keys()) this.#tell(kind, chatId);
    this.outgoing.resume();
  }

  #resync(chatId) {
    this.#dispatch({ type: 'resync', chat_id: chatId });
    if (chatId) this.#loadChat(chatId);
    else this.#loadChats();
    this.show(this.#shown);
  }

  async #loadChats(cursor = '') {
    const params = { limit: CHATS_PAGE, ...(cursor && { cursor }) };
    await this.#load('chats', 'chats.list', params, (result) => ({ type: 'chats', ...result }));
    for (const { last_message: last, unread: count } of Object.values(this.#state.chats)) if (last && count) this.#deliver(last);
    if (this.#state.degraded.length) this.#later('degraded', DEGRADED_MS, () => this.#loadChats());
    this.#watch();
  }

  async #loadChat(chatId) {
    await this.#load(`chat ${chatId}`, 'chats.get', { chat_id: chatId }, (result) => ({ type: 'chat', ...result }));
    this.#watch();
  }

  /** The newest messages with some that were read already; where the new ones are too many for that, from the first of them on. */
  #loadConversation(chatId) {
    const news = unread(this.#state, chatId);
    if (HISTORY_PAGE + news > MAX_PAGE) return this.#loadAround(chatId, this.#state.chats[chatId].read_up_to || BEGINNING);
    return this.#loadHistory(chatId, {}, HISTORY_PAGE + news);
  }

  #loadHistory(chatId, where = {}, limit = where.before || where.after ? MAX_PAGE : HISTORY_PAGE) {
    const params = { chat_id: chatId, limit, ...where };
    return this.#load(chatId, 'messages.history', params, (result) => ({ type: 'history', chat_id: chatId, ...where, ...result }));
  }

  /** What comes after a message, then the message itself and what was before it. */
  #loadAround(chatId, messageId) {
    const ask = (more) => this.#messenger.call('messages.history', { chat_id: chatId, limit: HISTORY_PAGE, ...more });
    return this.#once(chatId, async () => {
      const { messages: newer = [], has_more: hasNewer = false } = await ask({ after: messageId });
      const { messages: older = [], has_more: hasMore = false } = await ask(newer.length ? { before: newer[0].message_id } : {});
      const messages = [...older, ...newer];
      this.#dispatch({ type: 'history', chat_id: chatId, around: messageId, messages, has_more: hasMore, has_newer: hasNewer });
    });
  }

  #load(key, method, params, action) {
    return this.#once(key, async () => this.#dispatch(action(await this.#messenger.call(method, params))));
  }

  /** Does one thing of a key at a time; what has failed waits for `retryLoading` or the next session. */
  #once(key, work) {
    if (!this.#loading.has(key)) this.#loading.set(key, this.#attempt(key, work));
    return this.#loading.get(key);
  }

  async #attempt(key, work) {
    try {
      await work();
      this.failures.delete(key);
    } catch (error) {
      this.failures.set(key, error);
      this.#changed();
    } finally {
      this.#loading.delete(key);
    }
  }

  /** A notification about a chat; the names of one that was unknown so far are asked for. */
  #about(chatId, action) {
    const known = this.#state.chats[chatId];
    this.#dispatch(action);
    if (!known) this.#loadChat(chatId);
  }

  #updated(event) {
    const before = this.#state.chats[event.chat.chat_id];
    this.#about(event.chat.chat_id, { type: 'chat', ...event });
    if (before?.blocked && !this.#state.chats[event.chat.chat_id].blocked) this.watchPeople(); // lifted on another device
  }

  // --- receipts, typing, presence ------------------------------------------------------------------------------------

  #received(message) {
    this.#about(message.chat_id, { type: 'message.new', message });
    this.#deliver(message);
  }

  #deliver({ chat_id: chatId, message_id: upTo, sender_id: sender }) {
    if (sender === this.#state.me) return;
    const known = this.#marks.delivered.get(chatId) ?? '';
    if (upTo > known) this.#marks.delivered.set(chatId, upTo);
    this.#later(`delivered ${chatId}`, DELIVERED_MS, () => this.#tell('delivered', chatId));
  }

  #mark(kind, chatId, upTo) {
    this.#marks[kind].set(chatId, upTo);
    this.#tell(kind, chatId);
  }

  /** Tells the server how far the chat is read or delivered: one call at a time, then the newest mark. */
  async #tell(kind, chatId) {
    const [key, marks] = [`${kind} ${chatId}`, this.#marks[kind]];
    if (this.#telling.has(key)) return;
    this.#telling.add(key);
    try {
      for (let upTo = marks.get(chatId); upTo; upTo = marks.get(chatId)) {
        if (kind === 'delivered' && upTo <= this.#state.chats[chatId]?.read_up_to) break; // who reads has received
        const result = await this.#messenger.call(`chats.mark_${kind}`, { chat_id: chatId, up_to: upTo });
        if (marks.get(chatId) === upTo) marks.delete(chatId);
        if (result.chat) this.#dispatch({ type: 'chat', ...result });
      }
      marks.delete(chatId);
    } catch (error) {
      if (!error.retryable) marks.delete(chatId);
    } finally {
      this.#telling.delete(key);
    }
  }

  #typing(event) {
    this.#dispatch({ type: 'typing', ...event });
    const over = { type: 'typing', chat_id: event.chat_id, user_id: '' };
    this.#again(`typing ${event.chat_id}`, TYPING_MS, () => this.#dispatch(over));
  }

  async #watch() {
    if (this.connection.name !== 'online') return;
    const people = chatList(this.#state).filter(({ blocked }) => !blocked).map(({ peer }) => peer.user_id);
    const asked = [...new Set(people)].slice(0, PRESENCE_PAGE).filter((id) => !this.#watched.has(id));
    if (!asked.length) return;
    asked.forEach((id) => this.#watched.add(id));
    const result = await this.#messenger.call('presence.get', { user_ids: asked }, { retry: false }).catch(() => null);
    if (result) this.#dispatch({ type: 'presence', ...result });
  }

  // --- state ---------------------------------------------------------------------------------------------------------

  #dispatch(action) {
    const before = this.#state;
    this.#state = reduce(before, action);
    this.outgoing.keep(before);
    this.#changed();
  }

  /** Does something after a while, unless it is going to be done anyway. */
  #later(key, ms, act) {
    if (!this.#timers.has(key)) this.#timers.set(key, setTimeout(() => (this.#timers.delete(key), act()), ms));
  }

  /** Does something after a while, from now. */
  #again(key, ms, act) {
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
    this.#later(key, ms, act);
  }
}
