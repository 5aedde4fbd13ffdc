/** Searching: in all chats (a list of what was found in place of the chats), and in one (from one place to the next). */

import { avatar } from './chat-list.js';
import { h } from './dom.js';
import { highlighted, nameOf, when } from './format.js';
import { chatList } from './selectors.js';

const PAUSE_MS = 250; // in typing, before it is searched
const MAX_QUERY = 256;

const byId = (id) => document.getElementById(id);

/** What was found for one query so far; asks for the next page when it is wanted. */
class Search {
  messages = [];
  query = '';
  chatId = '';
  error = null;
  busy = false;
  #cursor = '';
  #timer;
  #find;
  #changed;

  /** `find(query, chatId, cursor)`: see `Model.search`. `changed()`: called after every change. */
  constructor({ find, changed }) {
    this.#find = find;
    this.#changed = changed;
  }

  get more() {
    return this.#cursor !== '';
  }

  /** Searches for something else, after a pause in typing. */
  start(query, chatId = '') {
    clearTimeout(this.#timer);
    Object.assign(this, { query: query.trim().slice(0, MAX_QUERY), chatId, messages: [], error: null, busy: query.trim() !== '' });
    this.#cursor = '';
    if (this.query) this.#timer = setTimeout(() => this.next(), PAUSE_MS);
    this.#changed();
  }

  /** Asks for one more page. */
  async next() {
    const { query } = this;
    this.busy = true;
    try {
      const { messages, nextCursor } = await this.#find(query, this.chatId, this.#cursor);
      if (query !== this.query) return;
      this.messages = [...this.messages, ...messages];
      this.#cursor = nextCursor;
    } catch (error) {
      if (query === this.query) this.error = error;
    }
    this.busy = query !== this.query;
    this.#changed();
  }
}

/** The field above the chats. */
export class SearchView {
  #search;
  #input = byId('search');
  #list = byId('results');
  #render;
  #state;

  /** `find`: see `Model.search`. `render()`: draws everything. */
  constructor({ find, render }) {
    this.#render = render;
    this.#search = new Search({ find, changed: render });
    this.#input.oninput = () => this.#search.start(this.#input.value);
    byId('found').onscroll = ({ target }) => this.#scrolled(target);
    byId('list').addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.#search.query) return;
      event.stopPropagation();
      this.clear();
      this.#input.focus();
    });
  }

  clear() {
    this.#input.value = '';
    this.#search.start('');
  }

  render(state) {
    this.#state = state;
    const { query, messages, busy, error } = this.#search;
    byId('found').hidden = !query;
    byId('chats-scroller').hidden = Boolean(query);
    if (!query) return void this.#list.replaceChildren();
    const chats = chatList(state).filter(({ peer }) => nameOf(peer).toLowerCase().includes(query.toLowerCase()));
    this.#list.replaceChildren(...chats.map((chat) => this.#chat(chat)), ...messages.map((message) => this.#message(message)));
    const none = chats.length || messages.length ? '' : 'Nothing was found.';
    byId('found-state').textContent = error ? `It could not be searched: ${error.message}` : busy ? 'Searching…' : none;
  }

  #scrolled({ scrollHeight, scrollTop, clientHeight }) {
    if (this.#search.more && !this.#search.busy && scrollHeight - scrollTop - clientHeight < 300) this.#search.next();
  }

  #chat({ chat_id: chatId, peer, item }) {
    const name = h('span', { class: 'name' }, ...marked(nameOf(peer), this.#search.query), item?.title ? h('span', { class: 'item' }, item.title) : '');
    return h('li', {}, h('a', { class: 'row', href: `#chat=${chatId}` }, avatar(peer), name));
  }

  #message({ chat_id: chatId, message_id: id, sender_id: sender, text, created_at: at }) {
    const peer = this.#state.chats[chatId]?.peer ?? { user_id: sender };
    return h('li', {}, h('a', { class: 'row', href: `#chat=${chatId}&message=${id}` },
      avatar(peer),
      h('span', { class: 'name', dir: 'auto' }, nameOf(peer)),
      h('time', { datetime: at }, when(new Date(at), new Date())),
      h('span', { class: 'preview', dir: 'auto' }, sender === this.#state.me ? 'You: ' : '', ...marked(text, this.#search.query))));
  }
}

/** The bar above a conversation. */
export class FindBar {
  #search;
  #input = byId('find');
  #chatId = '';
  #at = -1;
  #jump;

  /** `find`: see `Model.search`. `jump(chatId, messageId)`. `closed()`: gives the keyboard back. */
  constructor({ find, jump, closed }) {
    this.#jump = jump;
    this.#search = new Search({ find, changed: () => this.#changed() });
    this.#input.oninput = () => (this.#at = -1, this.#search.start(this.#input.value, this.#chatId));
    byId('find-older').onclick = () => this.#step(1);
    byId('find-newer').onclick = () => this.#step(-1);
    byId('find-close').onclick = () => (this.close(), closed());
    byId('find-bar').onkeydown = (event) => {
      if (event.key === 'Escape') (event.stopPropagation(), this.close(), closed());
      if (event.key === 'Enter' && event.target === this.#input) (event.preventDefault(), this.#step(event.shiftKey ? -1 : 1));
    };
  }

  open(chatId) {
    this.close();
    this.#chatId = chatId;
    byId('find-bar').hidden = false;
    this.#input.focus();
  }

  close() {
    byId('find-bar').hidden = true;
    this.#input.value = '';
    this.#at = -1;
    this.#search.start('');
  }

  async #step(by) {
    if (this.#at + by >= this.#search.messages.length && this.#search.more && !this.#search.busy) await this.#search.next();
    const next = this.#at + by;
    if (next < 0 || next >= this.#search.messages.length) return;
    this.#at = next;
    this.#changed();
    this.#jump(this.#chatId, this.#search.messages[next].message_id);
  }

  #changed() {
    const { messages, query, busy, error, more } = this.#search;
    if (this.#at < 0 && messages.length) return void this.#step(1);
    const of = `${messages.length}${more ? '+' : ''}`;
    const found = messages.length ? `${this.#at + 1} of ${of}` : 'Nothing found';
    byId('find-state').textContent = !query ? '' : error ? 'It could not be searched' : busy && !messages.length ? '…' : found;
    byId('find-older').disabled = this.#at + 1 >= messages.length && !more;
    byId('find-newer').disabled = this.#at <= 0;
  }
}

const marked = (text, query) => highlighted(text, query).map((part) => (part.hit ? h('mark', {}, part.text) : part.text));
