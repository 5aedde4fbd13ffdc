/** One conversation: its messages, the place where the reader is in them, and the composer. */

import { avatar } from './chat-list.js';
import { h, icon, reconcile } from './dom.js';
import { clock, dayName, exactly, lengthOf, linked, nameOf } from './format.js';
import { conversation, unread } from './store.js';

const MAX_TEXT = 4_096;
const COUNT_FROM = 3_800;
const AT_BOTTOM_PX = 48;
const LOAD_AHEAD_PX = 800;
const NEW_LINE_TOP_PX = 96;
const STATUS = { sending: 'Sending', sent: 'Sent', read: 'Read', failed: 'Not sent' };

const byId = (id) => document.getElementById(id);

export class ConversationView {
  #actions;
  #chatId = '';
  #state;
  #rows = new Map();
  #drawn = new Map();
  #newAfter = null; // the read pointer behind which the line "new messages" stands
  #placed = false; // whether the reader has been put at the right place once
  #sticky = true; // whether the reader is at the end, and stays there
  #leftAt = 0; // where the last drawing left the scroller
  #lastKey = '';

  #scroller = byId('scroller');
  #log = byId('log');
  #text = byId('text');
  #toBottom = byId('to-bottom');

  /** Actions: `send(chatId, text)`, `draft(chatId, text)`, `older(chatId)`, `retry(id)`, `discard(id)`, `seen()`, `reload()`. */
  constructor(actions) {
    this.#actions = actions;
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#stays() && this.#scrollToEnd()).observe(this.#scroller);
    this.#toBottom.onclick = () => this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: 'smooth' });
    this.#text.oninput = () => this.#typed();
    this.#text.onkeydown = (event) => this.#key(event);
    byId('composer').onsubmit = (event) => (event.preventDefault(), this.#submit());
  }

  /** Shows a chat, or none (''). */
  open(chatId, state) {
    this.#chatId = chatId;
    this.#rows.clear();
    this.#drawn.clear();
    this.#log.replaceChildren();
    this.#newAfter = null;
    this.#placed = false;
    this.#sticky = true;
    this.#leftAt = 0;
    this.#lastKey = '';
    this.#text.value = state.drafts[chatId] ?? '';
    this.#fit();
  }

  focus() {
    this.#text.focus();
  }

  /** `attended`: the reader sees this window now. */
  render(state, { attended, failure }) {
    this.#state = state;
    const chat = state.chats[this.#chatId];
    byId('nothing-open').hidden = Boolean(this.#chatId);
    const appears = byId('chat').hidden && chat;
    byId('chat').hidden = !chat;
    if (!chat) return;
    if (appears) this.#fit(); // what is hidden has no height
    const before = { anchor: this.#anchor(), stays: this.#stays() };
    this.#renderHead(chat);
    this.#renderState(state, failure);
    const isUnread = unread(state, this.#chatId) > 0;
    if (!isUnread && !attended) this.#newAfter = null;
    if (isUnread && this.#newAfter === null && !(this.#placed && attended)) this.#newAfter = chat.read_up_to;
    this.#renderLog(conversation(state, this.#chatId, { newAfter: this.#newAfter }), before);
    this.#renderToBottom(isUnread);
  }

  /** The newest message that the reader has had before the eyes, or ''. */
  seenUpTo() {
    const bottom = this.#scroller.scrollTop + this.#scroller.clientHeight;
    const messages = this.#state.messages[this.#chatId] ?? [];
    for (let i = messages.length - 1; i >= 0 && this.#placed; i -= 1) {
      const element = this.#rows.get(messages[i].message_id);
      if (messages[i].sender_id === this.#state.me || !element) continue;
      if (element.offsetTop + Math.min(element.offsetHeight, 40) <= bottom) return messages[i].message_id;
    }
    return '';
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  #renderHead({ peer, item }) {
    const name = nameOf(peer);
    if (byId('peer-name').textContent !== name) byId('peer-name').textContent = name;
    byId('peer-avatar').replaceChildren(avatar(peer));
    const title = item?.title || item?.item_id || '';
    const url = /^https?:/.test(item?.url ?? '') ? item.url : null;
    const about = url ? h('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, title) : title;
    byId('peer-about').replaceChildren(about || (peer.name ? peer.user_id : ''));
  }

  #renderState(state, failure) {
    const history = state.history[this.#chatId];
    const line = byId('history-state');
    const again = () => h('button', { type: 'button', onclick: () => this.#actions.reload() }, 'Try again');
    if (failure) line.replaceChildren('Messages could not be loaded. ', again());
    else if (!history || history.hasMore) line.replaceChildren('Loading…');
    else line.replaceChildren(state.messages[this.#chatId]?.length ? '' : 'No messages yet. Say hello.');
    this.#log.setAttribute('aria-busy', String(!history));
  }

  #renderLog(rows, before) {
    const now = new Date();
    const name = nameOf(this.#state.chats[this.#chatId].peer);
    const signature = (row) => (row.kind === 'message' ? messageSignature(row) : `${row.kind} ${dayName(row.date ?? now, now)}`);
    const draw = (row, old) => drawRow(row, old, { now, name, actions: this.#actions });
    reconcile(this.#log, this.#drawn, rows, signature, draw);
    this.#rows = new Map(rows.filter((row) => row.message?.message_id)
      .map((row) => [row.message.message_id, this.#drawn.get(row.key).element]));
    const last = rows.at(-1);
    const sentNow = this.#placed && last && last.key !== this.#lastKey && last.status === 'sending';
    this.#lastKey = last?.key ?? '';
    this.#place(before, sentNow);
  }

  #renderToBottom(isUnread) {
    this.#toBottom.hidden = this.#sticky;
    const badge = this.#toBottom.querySelector('.badge');
    badge.hidden = !isUnread;
    badge.textContent = isUnread ? String(unread(this.#state, this.#chatId)) : '';
    this.#toBottom.setAttribute('aria-label', isUnread ? 'To the new messages' : 'To the newest message');
  }

  // --- the reader's place --------------------------------------------------------------------------------------------

  /** The first message in view and how far it is from the top: it shall stay there, whatever is inserted above. */
  #anchor() {
    const children = this.#log.children;
    let [low, high] = [0, children.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (children[middle].offsetTop + children[middle].offsetHeight > this.#scroller.scrollTop) high = middle;
      else low = middle + 1;
    }
    while (low < children.length && !children[low].classList.contains('message')) low += 1;
    return low < children.length ? { element: children[low], top: children[low].offsetTop } : null;
  }

  #place({ anchor, stays }, sentNow) {
    const newLine = this.#drawn.get('new')?.element;
    if (!this.#placed && this.#state.history[this.#chatId]) {
      this.#placed = true;
      if (newLine) this.#scroller.scrollTop = newLine.offsetTop - NEW_LINE_TOP_PX;
      else this.#scrollToEnd();
      this.#sticky = this.#atEnd();
    } else if (stays || sentNow) this.#scrollToEnd();
    else if (anchor?.element.isConnected) this.#scroller.scrollTop += anchor.element.offsetTop - anchor.top;
    this.#leftAt = this.#scroller.scrollTop;
    this.#loadAhead();
  }

  /** Whether the reader stays at the end: is there, and has not begun to scroll up, which an event tells only later. */
  #stays() {
    if (this.#scroller.scrollTop < this.#leftAt && !this.#atEnd()) this.#sticky = false;
    return this.#sticky;
  }

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#leftAt = this.#scroller.scrollTop;
    this.#sticky = true;
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < AT_BOTTOM_PX;
  }

  #scrolled() {
    if (!this.#chatId || !this.#state) return;
    this.#sticky = this.#atEnd();
    this.#leftAt = this.#scroller.scrollTop;
    this.#toBottom.hidden = this.#sticky;
    this.#loadAhead();
    this.#actions.seen();
  }

  #loadAhead() {
    if (this.#placed && this.#scroller.scrollTop < LOAD_AHEAD_PX) this.#actions.older(this.#chatId);
  }

  // --- the composer --------------------------------------------------------------------------------------------------

  #typed() {
    this.#fit();
    this.#actions.draft(this.#chatId, this.#text.value);
  }

  #fit() {
    const length = lengthOf(this.#text.value);
    byId('text-left').textContent = length > COUNT_FROM ? String(MAX_TEXT - length) : '';
    byId('composer').classList.toggle('too-long', length > MAX_TEXT);
    byId('composer').classList.toggle('ready', this.#text.value.trim() !== '' && length <= MAX_TEXT);
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  /** Enter sends; on a touch keyboard, which has no Shift+Enter, it breaks the line. */
  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.#text.value.trim();
    if (!text || lengthOf(text) > MAX_TEXT) return;
    this.#text.value = '';
    this.#newAfter = null;
    this.#fit();
    this.#actions.send(this.#chatId, text);
    this.#text.focus();
  }
}

// --- rows ------------------------------------------------------------------------------------------------------------

const messageSignature = ({ message, status, first, last }) =>
  JSON.stringify([message.text, message.created_at, message.edited_at, message.error, status, first, last]);

function drawRow(row, old, context) {
  if (row.kind === 'day') return h('li', { class: 'day' }, h('span', {}, dayName(row.date, context.now)));
  if (row.kind === 'new') return h('li', { class: 'new-line' }, h('span', {}, 'New messages'));
  return drawMessage(row, old, context);
}

/** Changes what is there where it can: a screen reader reads out what is added to the log. */
function drawMessage({ message, status, first, last }, old, { name, actions }) {
  const own = status !== '';
  const element = old ?? h('li', {},
    h('div', { class: 'bubble' },
      h('span', { class: 'visually-hidden' }, own ? 'You: ' : `${name}: `),
      h('span', { class: 'text', dir: 'auto' }),
      h('span', { class: 'meta', 'aria-live': 'off' })));
  element.className = ['message', own ? 'own' : 'theirs', first && 'first', last && 'last', status].filter(Boolean).join(' ');
  const text = element.querySelector('.text');
  if (text.textContent !== message.text) text.replaceChildren(...linked(message.text).map(textOrLink));
  const at = new Date(message.created_at);
  element.querySelector('.meta').replaceChildren(
    h('time', { datetime: message.created_at, title: exactly(at) }, clock(at)),
    own ? icon(status, STATUS[status]) : '');
  element.querySelector('.failure')?.remove();
  if (status === 'failed') element.append(drawFailure(message, actions));
  return element;
}

function drawFailure({ client_msg_id: id, error }, actions) {
  return h('p', { class: 'failure' }, error.retryable ? 'Not sent. ' : `Not sent: ${error.message}. `,
    h('button', { type: 'button', onclick: () => actions.retry(id) }, 'Try again'),
    h('button', { type: 'button', onclick: () => actions.discard(id) }, 'Discard'));
}

const textOrLink = ({ text, href }) =>
  (href ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, text) : text);
