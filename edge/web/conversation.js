/** One conversation: who it is with, its messages, and what can be done with them. Rows are in message.js, the reader's place in place.js. */

import { avatar } from './chat-list.js';
import { Composer } from './composer.js';
import { h, reconcile } from './dom.js';
import { nameOf, presenceText } from './format.js';
import { openMenu } from './menu.js';
import { drawRow, signature } from './message.js';
import { Place, stretch } from './place.js';
import { conversation, heldMessages, indexAfter, lastOwn, unread } from './selectors.js';

const byId = (id) => document.getElementById(id);

export class ConversationView {
  #actions;
  #chatId = '';
  #state;
  #drawn = new Map();
  #edges = ['', '']; // ids of the first and the last message that is drawn
  #newAfter = null; // the read pointer behind which the line "new messages" stands
  #goal = ''; // where the reader is put next: a message_id, 'end', or '' for the first unread message
  #top = null; // how far below the upper edge that message is put, in pixels; null for the middle
  #left = new Map(); // chat_id -> where the reader left it, {id, top}; none where that was the end
  #announced = '';
  #current = null; // the message that the keyboard comes to
  #last = null; // the last one that is drawn

  #log = byId('log');
  #toBottom = byId('to-bottom');
  #composer;
  #place;

  /**
   * Actions: `send(chatId, text)`, `edit(message, text)`, `remove(message)`, `draft(chatId, text)`,
   * `editing(chatId, message, text)` with null when it is over, `older(chatId)`, `newer(chatId)`, `newest(chatId)`, `retry(id)`,
   * `discard(id)`, `setBlocked(peer, blocked)`, `seen()`, `reload()`.
   */
  constructor(actions) {
    this.#actions = actions;
    const moved = () => this.#scrolled();
    this.#place = new Place({ scroller: byId('scroller'), log: this.#log, moved, hasNewer: () => this.#hasNewer() });
    this.#composer = new Composer({
      send: (text) => (actions.send(this.#chatId, text), this.#toNewest()),
      edit: actions.edit,
      draft: (text) => actions.draft(this.#chatId, text),
      editing: (message, text) => actions.editing(this.#chatId, message, text),
      lastOwn: () => lastOwn(this.#state, this.#chatId),
    });
    this.#toBottom.onclick = () => this.#toNewest();
    byId('chat-menu').onclick = ({ currentTarget }) => this.#openChatMenu(currentTarget);
    byId('unblock').onclick = () => actions.setBlocked(this.#chat.peer, false);
    this.#log.addEventListener('click', (event) => event.target.closest('.more') && this.#openMenu(event));
    this.#log.addEventListener('contextmenu', (event) => event.target.closest('a') || String(getSelection()) || this.#openMenu(event));
    this.#log.addEventListener('keydown', (event) => this.#key(event));
    this.#log.addEventListener('focusin', ({ target }) => this.#setCurrent(target.closest('.message')));
  }

  /** Shows a chat, or none (''); at a message where one is given, else where the reader left it. */
  open(chatId, state, messageId = '') {
    this.#leave();
    const left = messageId ? null : this.#left.get(chatId);
    this.#state = state;
    this.#chatId = chatId;
    this.#drawn.clear();
    this.#log.replaceChildren();
    this.#edges = ['', ''];
    this.#newAfter = null;
    this.#announced = '';
    this.#place.reset();
    this.#composer.open(state.drafts[chatId] ?? '', state.edits[chatId]);
    [this.#goal, this.#top] = left && state.history[chatId] && this.#holds(left.id) ? [left.id, left.top] : [messageId, null];
  }

  /** Forgets where the reader was: another user comes. */
  clear() {
    this.#place.reset();
    this.#left.clear();
  }

  /** Goes to a message of the open chat, or to its 'end'; to the first unread one where the message is not there. */
  jump(goal) {
    [this.#goal, this.#top] = [goal === 'end' || this.#holds(goal) ? goal : '', null];
    this.#place.reset();
    this.#renderLog();
  }

  focus() {
    this.#composer.focus();
  }

  /** `attended`: the reader sees this window now. `online`: what is known of people's presence is true. */
  render(state, { attended, online, failure }) {
    this.#state = state;
    const chat = this.#chat;
    byId('nothing-open').hidden = Boolean(this.#chatId);
    const appears = byId('chat').hidden && chat;
    byId('chat').hidden = !chat;
    if (!chat) return;
    if (appears) this.#composer.fit(); // what is hidden has no height
    const place = this.#place.save(); // before anything above the messages changes its height
    this.#renderHead(chat, online);
    this.#renderState(failure);
    const isUnread = unread(state, this.#chatId) > 0;
    if (!isUnread && !attended) this.#newAfter = null;
    if (isUnread && this.#newAfter === null && !(this.#place.settled && attended)) this.#newAfter = chat.read_up_to;
    this.#renderLog(place);
    if (attended) this.#announce(chat);
  }

  /** The newest message that the reader has had before the eyes, or ''. */
  seenUpTo() {
    if (!this.#place.settled) return '';
    const theirs = [...this.#log.querySelectorAll('.theirs')];
    return theirs.findLast((element) => this.#place.hasSeen(element))?.dataset.id ?? '';
  }

  get #chat() {
    return this.#state.chats[this.#chatId];
  }

  #holds(messageId) {
    const held = heldMessages(this.#state, this.#chatId);
    return held[indexAfter(held, messageId) - 1]?.message_id === messageId;
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  #renderHead({ peer, item, blocked }, online) {
    const name = nameOf(peer);
    if (byId('peer-name').textContent !== name) byId('peer-name').textContent = name;
    byId('peer-avatar').replaceChildren(avatar(peer, online && this.#state.presence[peer.user_id]?.online));
    const title = item?.title || item?.item_id || '';
    const url = /^https?:/.test(item?.url ?? '') ? item.url : null;
    const about = url ? h('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, title) : title;
    const there = this.#thereText(peer.user_id, online);
    byId('peer-about').replaceChildren(about, about && there ? ' · ' : '', there || (about || !peer.name ? '' : peer.user_id));
    byId('peer-about').classList.toggle('typing', Boolean(this.#state.typing[this.#chatId]));
    byId('blocked').hidden = !blocked;
    byId('blocked-text').textContent = `You blocked ${name}.`;
    byId('composer').hidden = Boolean(blocked);
  }

  #thereText(userId, online) {
    if (this.#state.typing[this.#chatId]) return 'typing…';
    const presence = online && this.#state.presence[userId];
    return presence ? presenceText(presence, new Date()) : '';
  }

  #renderState(failure) {
    const history = this.#state.history[this.#chatId];
    const line = byId('history-state');
    const again = () => h('button', { type: 'button', onclick: () => this.#actions.reload() }, 'Try again');
    if (failure) line.replaceChildren('Messages could not be loaded. ', again());
    else if (!history || history.hasMore) line.replaceChildren('Loading…');
    else line.replaceChildren(this.#state.messages[this.#chatId]?.length ? '' : 'No messages yet. Say hello.');
    this.#log.setAttribute('aria-busy', String(!history));
  }

  #renderLog(place = this.#place.save()) {
    const held = heldMessages(this.#state, this.#chatId);
    const [from, to] = stretch(held.length, this.#readerAt(held, place.element), this.#span(held));
    this.#edges = [held[from]?.message_id ?? '', held[to - 1]?.message_id ?? ''];
    const now = new Date();
    const context = { now, name: nameOf(this.#chat.peer), actions: this.#actions };
    const rows = conversation(this.#state, this.#chatId, { newAfter: this.#newAfter, from, to });
    reconcile(this.#log, this.#drawn, rows, (row) => signature(row, now), (row, old) => drawRow(row, old, context));
    if (this.#place.settled) this.#place.restore(place);
    else if (this.#state.history[this.#chatId] && this.#isThere(this.#goal)) this.#settle();
    this.#followEnd();
    this.#renderToBottom();
    this.#loadAhead();
  }

  /** The place among the held messages of the one that must be drawn whatever else is. */
  #readerAt(held, inView) {
    const end = held.length - 1;
    if (!this.#place.settled) {
      if (this.#goal) return this.#goal === 'end' ? end : indexAfter(held, this.#goal) - 1;
      return this.#newAfter === null ? end : Math.min(end, indexAfter(held, this.#newAfter));
    }
    return this.#place.atEnd || !inView ? end : indexAfter(held, inView.dataset.id) - 1;
  }

  #span(held) {
    const [first, last] = this.#edges;
    return first ? [Math.max(0, indexAfter(held, first) - 1), indexAfter(held, last)] : [0, 0];
  }

  #hasNewer() {
    const held = heldMessages(this.#state, this.#chatId);
    return Boolean(this.#state.history[this.#chatId]?.until) || this.#span(held)[1] < held.length;
  }

  #settle() {
    const message = this.#element(this.#goal);
    const newLine = this.#goal ? null : this.#drawn.get('new')?.element;
    this.#place.settle({ message, top: this.#top, newLine });
    this.#goal = '';
    if (!message || this.#top !== null) return;
    this.#setCurrent(message);
    message.animate({ backgroundColor: ['var(--found)', 'transparent'] }, { duration: 2_000, easing: 'ease-in' });
  }

  #isThere(goal) {
    return !goal || goal === 'end' || Boolean(this.#element(goal));
  }

  #renderToBottom() {
    const { atEnd } = this.#place;
    this.#toBottom.hidden = atEnd;
    if (atEnd) return;
    const count = unread(this.#state, this.#chatId);
    const badge = this.#toBottom.querySelector('.badge');
    badge.hidden = !count;
    badge.textContent = count ? String(count) : '';
    this.#toBottom.setAttribute('aria-label', count ? 'To the newest of the new messages' : 'To the newest message');
  }

  /** Has what comes in read out, which inserting older messages must not. */
  #announce({ peer }) {
    const last = this.#state.messages[this.#chatId]?.at(-1);
    if (!last || !this.#place.settled) return;
    const isNew = this.#announced && last.message_id > this.#announced && last.sender_id !== this.#state.me;
    if (isNew) byId('announcer').textContent = `${nameOf(peer)}: ${last.text}`;
    this.#announced = last.message_id;
  }

  #element(messageId) {
    return messageId ? this.#log.querySelector(`[data-id="${CSS.escape(messageId)}"]`) : null;
  }

  // --- moving --------------------------------------------------------------------------------------------------------

  #leave() {
    const left = this.#place.leave();
    if (left) this.#left.set(this.#chatId, left);
    else this.#left.delete(this.#chatId);
  }

  #scrolled() {
    if (!this.#chatId || !this.#state || !this.#place.settled) return;
    const held = heldMessages(this.#state, this.#chatId);
    const span = this.#span(held);
    const [from, to] = stretch(held.length, this.#readerAt(held, this.#place.firstInView()), span);
    if (from !== span[0] || to !== span[1]) this.#renderLog();
    else this.#loadAhead();
    this.#renderToBottom();
    this.#actions.seen();
  }

  #loadAhead() {
    if (!this.#place.settled) return;
    const held = heldMessages(this.#state, this.#chatId);
    const [from, to] = this.#span(held);
    if (from === 0 && this.#place.nearTop) this.#actions.older(this.#chatId);
    if (to === held.length && this.#place.nearBottom) this.#actions.newer(this.#chatId);
  }

  async #toNewest() {
    const chatId = this.#chatId;
    await this.#actions.newest(chatId);
    if (chatId === this.#chatId) this.jump('end');
  }

  // --- one message ---------------------------------------------------------------------------------------------------

  /** The message that the keyboard comes to is the newest, unless the user has gone to another one. */
  #followEnd() {
    const last = [...this.#log.children].findLast((child) => child.matches('.message'));
    const follows = this.#current === this.#last && !this.#log.contains(document.activeElement);
    this.#last = last;
    if (follows || !this.#current?.isConnected) this.#setCurrent(last);
  }

  /** The keyboard comes to one message; the arrows go on from there. */
  #setCurrent(element) {
    if (!element || element === this.#current) return;
    if (this.#current) this.#current.tabIndex = -1;
    this.#current = element;
    element.tabIndex = 0;
  }

  #key(event) {
    if (!event.target.matches('.message')) return;
    const step = { ArrowUp: 'previousElementSibling', ArrowDown: 'nextElementSibling' }[event.key];
    if (event.key === 'Enter' || event.key === ' ') return this.#openMenu(event);
    if (!step) return;
    event.preventDefault();
    let next = event.target[step];
    while (next && !next.matches('.message')) next = next[step];
    next?.focus();
  }

  #openMenu(event) {
    const element = event.target.closest('.message');
    const message = element && heldMessages(this.#state, this.#chatId).find(({ message_id: id }) => id === element.dataset.id);
    if (!message || message.deleted) return;
    event.preventDefault();
    const own = message.sender_id === this.#state.me;
    openMenu(element.querySelector('.more'), [
      own && !this.#chat.blocked && { label: 'Edit', icon: 'edit', act: () => this.#composer.edit(message) },
      navigator.clipboard && { label: 'Copy', icon: 'copy', act: () => navigator.clipboard.writeText(message.text) },
      { label: 'Delete…', icon: 'delete', danger: true, act: () => this.#actions.remove(message) },
    ]);
  }

  #openChatMenu(button) {
    const { peer, blocked } = this.#chat;
    const label = `${blocked ? 'Unblock' : 'Block'} ${nameOf(peer)}`;
    openMenu(button, [{ label, icon: 'block', danger: !blocked, act: () => this.#actions.setBlocked(peer, !blocked) }]);
  }
}
