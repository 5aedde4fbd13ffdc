/** What has been received: events by their id, messages by their `seq`. Pure. */

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

  /** Chats of which something is missing. */
  incomplete() {
    return [...this.#chats.keys()].filter((chatId) => this.missing(chatId).length);
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
