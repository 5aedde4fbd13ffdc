/** The list of chats: who, whether they are there, what was said last, when, how much is unread. */

import { h, reconcile } from './dom.js';
import { hue, initials, nameOf, when } from './format.js';
import { chatList, unread } from './selectors.js';

const LOAD_AHEAD_PX = 300;

export class ChatListView {
  #list = document.getElementById('chats');
  #empty = document.getElementById('chats-empty');
  #scroller = document.getElementById('chats-scroller');
  #drawn = new Map();

  /** `loadMore()`: the end of the list is near. */
  constructor({ loadMore }) {
    this.#scroller.addEventListener('scroll', () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
      if (scrollHeight - scrollTop - clientHeight < LOAD_AHEAD_PX) loadMore();
    }, { passive: true });
    this.#list.addEventListener('keydown', (event) => this.#moveFocus(event));
  }

  /** `online`: what is known of people's presence is true. */
  render(state, { openId, failure, online }) {
    const now = new Date();
    const rows = chatList(state).map((chat) => ({ key: chat.chat_id, ...describe(state, chat, now, online), open: chat.chat_id === openId }));
    reconcile(this.#list, this.#drawn, rows, JSON.stringify, draw);
    this.#empty.hidden = rows.length > 0 || (state.nextCursor === null && !failure);
    this.#empty.textContent = failure ? `The chats could not be loaded: ${failure.message}` : 'No chats yet. Start one with the plus above.';
  }

  /** Gives the keyboard back to where it was before a chat was opened. */
  focus(chatId) {
    this.#drawn.get(chatId)?.element.querySelector('a').focus();
  }

  #moveFocus(event) {
    const step = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling' }[event.key];
    const target = step && event.target.closest('li')[step]?.querySelector('a');
    if (!target) return;
    event.preventDefault();
    target.focus();
  }
}

/** The chat's preview as plain values, so that a row is drawn again only when one of them changed. */
function describe(state, chat, now, online) {
  const last = chat.last_message;
  const draft = state.drafts[chat.chat_id];
  const typing = Boolean(state.typing[chat.chat_id]);
  const said = last?.deleted ? 'Deleted message' : last?.text;
  return {
    peer: chat.peer,
    item: chat.item?.title ?? '',
    here: Boolean(online && state.presence[chat.peer.user_id]?.online),
    lead: typing ? '' : draft ? 'Draft: ' : last?.sender_id === state.me ? 'You: ' : '',
    text: typing ? 'typing…' : draft ?? said ?? 'No messages yet',
    tone: typing ? 'typing' : draft ? 'draft' : '',
    at: last?.created_at ?? chat.updated_at ?? '',
    time: when(new Date(last?.created_at ?? chat.updated_at), now),
    unread: unread(state, chat.chat_id),
  };
}

function draw(row, old) {
  const element = old ?? h('li');
  const count = row.unread > 99 ? '99+' : String(row.unread);
  const preview = h('span', { class: `preview ${row.tone}`, dir: 'auto' }, h('span', { class: 'lead' }, row.lead), row.text);
  const badge = row.unread > 0 && h('span', { class: 'badge' }, count, h('span', { class: 'visually-hidden' }, ' unread'));
  const link = element.querySelector('a') ?? h('a');
  link.href = `#chat=${row.key}`;
  link.className = row.unread ? 'row unread' : 'row';
  if (row.open) link.setAttribute('aria-current', 'true');
  else link.removeAttribute('aria-current');
  link.replaceChildren(
    avatar(row.peer, row.here),
    h('span', { class: 'name', dir: 'auto' }, nameOf(row.peer), row.item && h('span', { class: 'item' }, row.item)),
    h('time', { datetime: row.at }, row.time),
    preview,
    badge || '',
  );
  if (!old) element.append(link);
  return element;
}

/** A user's picture over coloured initials, which remain where there is none; `here`: with the mark of who is online. */
export function avatar(peer, here = false) {
  const circle = h('span', { class: 'avatar' }, h('span', { class: 'face', 'aria-hidden': 'true' }, initials(nameOf(peer))));
  circle.style.setProperty('--hue', hue(peer.user_id));
  if (/^https:/.test(peer.avatar_url ?? '')) {
    circle.firstChild.append(h('img', { src: peer.avatar_url, alt: '', loading: 'lazy', onerror: ({ target }) => target.remove() }));
  }
  if (here) circle.append(h('span', { class: 'here' }, h('span', { class: 'visually-hidden' }, 'online ')));
  return circle;
}
