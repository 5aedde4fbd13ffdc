/** The page before one is signed in: a token, or on the local stack a name. Who is signed in stays so in this window. */

import { avatar } from './chat-list.js';
import { h } from './dom.js';
import { nameOf } from './format.js';
import { subject } from './messenger.js';

const PATH = '/dev/token'; // there on the local stack only
const PEOPLE = ['alice', 'bob', 'carol', 'dan'];
const byId = (id) => document.getElementById(id);

export class SignIn {
  #signedIn;

  /** `signedIn(token)`: has been called with the token when somebody signs in. */
  constructor(signedIn) {
    this.#signedIn = signedIn;
    byId('by-token').onsubmit = (event) => {
      event.preventDefault();
      const token = byId('token').value.trim();
      byId('token').value = '';
      this.accept(token);
    };
    byId('by-name').onsubmit = (event) => {
      event.preventDefault();
      this.#byName(byId('name').value.trim());
    };
    byId('people').replaceChildren(...PEOPLE.map((id) =>
      h('button', { type: 'button', onclick: () => this.#byName(id) }, avatar({ user_id: id }), nameOf({ name: capital(id) }))));
  }

  /** Signs in with a token, if it is one. */
  accept(token) {
    if (!subject(token)) return this.show('This is not a token: three parts of text, joined by dots, are expected.');
    sessionStorage.setItem('token', token);
    byId('sign-in').hidden = true;
    this.#signedIn(token);
  }

  /** Goes on as who was signed in here before; otherwise asks. */
  resume() {
    const token = sessionStorage.getItem('token');
    if (token) this.accept(token);
    else this.show();
  }

  /** Forgets who was signed in, and asks; `why`: what has happened. */
  async show(why = '') {
    sessionStorage.removeItem('token');
    sessionStorage.removeItem('by-name');
    byId('sign-in').hidden = false;
    byId('sign-in-error').textContent = why;
    const box = byId('token-box');
    box.open = false;
    const response = await fetch(PATH).catch(() => null);
    const here = response?.status === 204;
    byId('by-name').hidden = !here;
    if (byId('sign-in').hidden || box.open) return; // whoever has begun meanwhile is not disturbed
    box.open = !here;
    byId(here ? 'name' : 'token').focus();
  }

  /** A younger token of who signed in by a name, else ''. */
  async refresh() {
    const name = sessionStorage.getItem('by-name');
    return name ? (await tokenOf(name)).token ?? '' : '';
  }

  async #byName(name) {
    const { token, error } = await tokenOf(name);
    if (!token) return void (byId('sign-in-error').textContent = error);
    sessionStorage.setItem('by-name', name);
    this.accept(token);
  }
}

async function tokenOf(name) {
  const init = { method: 'POST', body: JSON.stringify({ user_id: name }), headers: { 'Content-Type': 'application/json' } };
  const response = await fetch(PATH, init).catch(() => null);
  return response?.json().catch(() => ({})) ?? { error: 'The messenger cannot be reached.' };
}

const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
