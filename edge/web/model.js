/**
 * What the pages act on: asks the messenger, folds what comes back into the store's state, and says that it changed.
 * No DOM. Keeps drafts and unsent messages in `storage`, so that a reload loses neither.
 */

import { initialState, reduce, unread } from './store.js';

const HISTORY_PAGE = 50;
const MAX_PAGE = 100;
const CHATS_PAGE = 30;

export class Model {
  /** What could not be loaded: 'chats' or a chat_id -> the error. */
  failures = new Map();
  #messenger;
  #storage;
  #changed;
  #state;
  #shown = '';
  #loading = new Set();
  #reads = new Map(); // chat_id -> the read pointer that the server has not confirmed

  /** `storage`: like sessionStorage. `changed`: called after every change of `state`, `connection` or `failures`. */
  constructor({ messenger, me, storage, changed }) {
    this.#messenger = messenger;
    this.#storage = storage;
    this.#changed = changed;
    this.#state = initialState(me);
    this.#restore();
  }

  get state() {
    return this.#state;
  }

  get connection() {
    return this.#messenger.state;
  }

  start() {
    const on = (name, listener) => this.#messenger.on(name, listener);
    on('state', () => this.#changed());
    on('session', () => this.#catchUp());
    on('resync', ({ chat_id: chatId }) => this.#resync(chatId));
    on('message.new', (event) => this.#about(event.message.chat_id, { type: 'message.new', ...event }));
    on('chat.updated', (event) => this.#about(event.chat.chat_id, { type: 'chat', ...event }));
    on('receipt.read', (event) => this.#dispatch({ type: 'receipt.read', ...event }));
    return this.#messenger.connect();
  }

  /** Opens the chat with a user, about an item where one is given; returns its chat_id. */
  async open(peerId, itemId) {
    const params = { peer_id: peerId, ...(itemId && { item_id: itemId }) };
    const result = await this.#messenger.call('chats.open', params);
    this.#dispatch({ type: 'chat', ...result });
    return result.chat.chat_id;
  }

  /** The conversation that is looked at, '' for none: what it needs is loaded, now and after every reconnect. */
  show(chatId) {
    this.#shown = chatId;
    if (!chatId) return;
    if (!this.#state.chats[chatId]) this.#loadChat(chatId);
    if (!this.#state.history[chatId]) this.#loadHistory(chatId);
  }

  loadMoreChats() {
    if (this.#state.nextCursor) this.#loadChats(this.#state.nextCursor);
  }

  loadOlder(chatId) {
    const oldest = this.#state.messages[chatId]?.[0];
    if (this.#state.history[chatId]?.hasMore && oldest) this.#loadHistory(chatId, oldest.message_id);
  }

  /** Loads again what could not be loaded. */
  retryLoading() {
    this.failures.clear();
    this.#catchUp();
  }

  send(chatId, text) {
    const message = { chat_id: chatId, text, client_msg_id: randomId(), created_at: new Date().toISOString() };
    this.#dispatch({ type: 'draft', chat_id: chatId, text: '' });
    this.#send(message);
  }

  /** Sends once more, under the same key: if the server has it already, it stays one message. */
  retry(clientMsgId) {
    if (this.#state.pending[clientMsgId]) this.#send(this.#state.pending[clientMsgId]);
  }

  discard(clientMsgId) {
    this.#dispatch({ type: 'dropped', client_msg_id: clientMsgId });
  }

  draft(chatId, text) {
    if ((this.#state.drafts[chatId] ?? '') !== text) this.#dispatch({ type: 'draft', chat_id: chatId, text });
  }

  /** The user has seen the chat up to this message. */
  markRead(chatId, upTo) {
    const chat = this.#state.chats[chatId];
    if (!chat || upTo <= chat.read_up_to) return;
    this.#dispatch({ type: 'receipt.read', chat_id: chatId, user_id: this.#state.me, up_to: upTo });
    this.#reads.set(chatId, upTo);
    this.#sendRead(chatId);
  }

  // --- loading -------------------------------------------------------------------------------------------------------

  #catchUp() {
    if (this.#state.nextCursor === null) this.#loadChats();
    this.show(this.#shown);
    for (const chatId of this.#reads.keys()) this.#sendRead(chatId);
    for (const { client_msg_id: id, error } of Object.values(this.#state.pending)) if (error?.retryable) this.retry(id);
  }

  #resync(chatId) {
    this.#dispatch({ type: 'resync', chat_id: chatId });
    if (chatId) this.#loadChat(chatId);
    else this.#loadChats();
    this.show(this.#shown);
  }

  #loadChats(cursor = '') {
    return this.#load('chats', 'chats.list', { limit: CHATS_PAGE, ...(cursor && { cursor }) }, (result) => ({ type: 'chats', ...result }));
  }

  #loadChat(chatId) {
    return this.#load(`chat ${chatId}`, 'chats.get', { chat_id: chatId }, (result) => ({ type: 'chat', ...result }));
  }

  #loadHistory(chatId, before) {
    const news = this.#state.chats[chatId] && !before ? unread(this.#state, chatId) : 0;
    const limit = Math.min(MAX_PAGE, HISTORY_PAGE + news); // with what has been read already above the new
    const params = { chat_id: chatId, limit, ...(before && { before }) };
    return this.#load(chatId, 'messages.history', params, (result) => ({ type: 'history', chat_id: chatId, before, ...result }));
  }

  /** Asks once at a time; what has failed waits for `retryLoading` or the next session. */
  async #load(key, method, params, action) {
    if (this.#loading.has(key)) return;
    this.#loading.add(key);
    try {
      const result = await this.#messenger.call(method, params);
      this.failures.delete(key);
      this.#dispatch(action(result));
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

  // --- sending -------------------------------------------------------------------------------------------------------

  async #send({ chat_id, text, client_msg_id, created_at }) {
    this.#dispatch({ type: 'queued', message: { chat_id, text, client_msg_id, created_at } });
    try {
      const { message } = await this.#messenger.send({ chat_id, text, client_msg_id });
      this.#dispatch({ type: 'message.new', message: { client_msg_id, ...message } });
    } catch ({ message, reason, retryable = false }) {
      this.#dispatch({ type: 'failed', client_msg_id, error: { message, reason, retryable } });
    }
  }

  async #sendRead(chatId) {
    const key = `read ${chatId}`;
    if (this.#loading.has(key)) return;
    this.#loading.add(key);
    try {
      for (let upTo = this.#reads.get(chatId); upTo; upTo = this.#reads.get(chatId)) {
        const result = await this.#messenger.call('chats.mark_read', { chat_id: chatId, up_to: upTo });
        if (this.#reads.get(chatId) === upTo) this.#reads.delete(chatId);
        this.#dispatch({ type: 'chat', ...result });
      }
    } catch (error) {
      if (!error.retryable) this.#reads.delete(chatId);
    } finally {
      this.#loading.delete(key);
    }
  }

  // --- state ---------------------------------------------------------------------------------------------------------

  #dispatch(action) {
    const before = this.#state;
    this.#state = reduce(before, action);
    if (this.#state.pending !== before.pending) this.#keep('outbox', this.#state.pending);
    if (this.#state.drafts !== before.drafts) this.#keep('drafts', this.#state.drafts);
    this.#changed();
  }

  #keep(name, value) {
    try {
      this.#storage.setItem(`${name}:${this.#state.me}`, JSON.stringify(value));
    } catch {
      // A full storage costs the draft after a reload, not the message now.
    }
  }

  #kept(name) {
    return JSON.parse(this.#storage.getItem(`${name}:${this.#state.me}`) ?? '{}');
  }

  #restore() {
    for (const [chatId, text] of Object.entries(this.#kept('drafts'))) this.#dispatch({ type: 'draft', chat_id: chatId, text });
    const error = { message: 'The page was reloaded', reason: 'CLIENT_RELOADED', retryable: true };
    for (const message of Object.values(this.#kept('outbox'))) {
      this.#dispatch({ type: 'queued', message });
      this.#dispatch({ type: 'failed', client_msg_id: message.client_msg_id, error: message.error ?? error });
    }
  }
}

/** 128 random bits; `crypto.randomUUID` is missing where the page was not loaded over TLS. */
const randomId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
