/**
 * What the user writes, optimistically: shown at once, sent under a key that stays, marked honestly when it was not accepted.
 * Unsent messages survive a reload, drafts the window too: both are kept by user.
 */

import { withDraft } from './store.js';

const TYPING_MS = 3_000; // one call in this time says that the user types

export class Outgoing {
  #messenger;
  #session;
  #local;
  #state;
  #dispatch;
  #typedAt = new Map();

  constructor({ messenger, session, local, state, dispatch }) {
    this.#messenger = messenger;
    this.#session = session;
    this.#local = local;
    this.#state = state;
    this.#dispatch = dispatch;
  }

  /** Brings back what a reload has interrupted, and the drafts. */
  restore() {
    const drafts = this.#stored(this.#local, 'drafts');
    for (const [chatId, text] of Object.entries(drafts)) this.#dispatch({ type: 'draft', chat_id: chatId, text });
    const error = { message: 'The page was reloaded', reason: 'CLIENT_RELOADED', retryable: true };
    for (const message of Object.values(this.#stored(this.#session, 'outbox'))) {
      this.#dispatch({ type: 'queued', message });
      this.#dispatch({ type: 'failed', client_msg_id: message.client_msg_id, error: message.error ?? error });
    }
  }

  send(chatId, text) {
    const message = { chat_id: chatId, text, client_msg_id: randomId(), created_at: new Date().toISOString() };
    this.#keepDraft(chatId, '');
    this.#typedAt.delete(chatId);
    this.#send(message);
  }

  /** Sends once more, under the same key: if the server has it already, it stays one message. */
  retry(clientMsgId) {
    const message = this.#state().pending[clientMsgId];
    if (message) this.#send(message);
  }

  /** Sends again what only ran out of time. */
  resume() {
    for (const { client_msg_id: id, error } of Object.values(this.#state().pending)) if (error?.retryable) this.retry(id);
  }

  discard(clientMsgId) {
    this.#dispatch({ type: 'dropped', client_msg_id: clientMsgId });
  }

  draft(chatId, text) {
    if ((this.#state().drafts[chatId] ?? '') === text) return;
    this.#keepDraft(chatId, text);
    if (text) this.typing(chatId);
  }

  /** How far another text for a message of the chat is; null for the message when that is over. */
  editing(chatId, message, text) {
    this.#dispatch({ type: 'editing', chat_id: chatId, message, text });
  }

  /** Leaves no draft behind in this browser: the user signs out. */
  forget() {
    this.#store(this.#local, 'drafts', {});
  }

  /** Tells the peer that the user types, now and then. */
  typing(chatId) {
    if (Date.now() - (this.#typedAt.get(chatId) ?? 0) < TYPING_MS || this.#messenger.state.name !== 'online') return;
    this.#typedAt.set(chatId, Date.now());
    this.#messenger.call('chats.typing', { chat_id: chatId }, { retry: false }).catch(({ reason }) => reason); // not worth a word
  }

  /** Gives an own message another text: seen at once, taken back when it fails. Throws `RpcError`. */
  async edit({ chat_id, message_id }, text) {
    await this.#change(message_id, { text }, async () => {
      const { message } = await this.#messenger.call('messages.edit', { chat_id, message_id, text });
      this.#dispatch({ type: 'message.updated', message });
    });
  }

  /** Takes a message away, for everybody where `forAll`. Throws `RpcError`. */
  async delete({ chat_id, message_id }, forAll) {
    await this.#change(message_id, { deleted: true, text: '' }, async () => {
      await this.#messenger.call('messages.delete', { chat_id, message_id, ...(forAll && { for_all: true }) });
      this.#dispatch({ type: 'message.deleted', chat_id, message_id });
    });
  }

  /** Writes unsent messages down where they differ from those of the state before. */
  keep(before) {
    const { pending } = this.#state();
    if (pending !== before.pending) this.#store(this.#session, 'outbox', pending);
  }

  /** Writes one draft down; those of other chats may have changed in another window. */
  #keepDraft(chatId, text) {
    this.#dispatch({ type: 'draft', chat_id: chatId, text });
    this.#store(this.#local, 'drafts', withDraft(this.#stored(this.#local, 'drafts'), chatId, text));
  }

  async #change(messageId, change, work) {
    this.#dispatch({ type: 'changing', message_id: messageId, change });
    try {
      await work();
    } finally {
      this.#dispatch({ type: 'changing', message_id: messageId, change: null });
    }
  }

  async #send({ chat_id, text, client_msg_id, created_at }) {
    this.#dispatch({ type: 'queued', message: { chat_id, text, client_msg_id, created_at } });
    try {
      const { message } = await this.#messenger.send({ chat_id, text, client_msg_id });
      this.#dispatch({ type: 'message.new', message: { client_msg_id, ...message } });
    } catch ({ message, reason, retryable = false }) {
      this.#dispatch({ type: 'failed', client_msg_id, error: { message, reason, retryable } });
    }
  }

  #store(storage, name, items) {
    const key = `${name}:${this.#state().me}`;
    try {
      if (Object.keys(items).length) storage.setItem(key, JSON.stringify(items));
      else storage.removeItem(key);
    } catch {
      // A full storage costs the draft after a reload, not the message now.
    }
  }

  #stored(storage, name) {
    return JSON.parse(storage.getItem(`${name}:${this.#state().me}`) ?? '{}');
  }
}

/** 128 random bits; `crypto.randomUUID` is missing where the page was not loaded over TLS. */
const randomId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
