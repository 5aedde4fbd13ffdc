/** Questions to the user, one at a time, and short notices of what did not work. */

import { h } from './dom.js';

const NOTICE_MS = 7_000;
const byId = (id) => document.getElementById(id);

/** Asks; resolves with the value of the choice, '' when it is cancelled. `choices`: `{label, value, danger?}`. */
export function ask(title, text, choices) {
  const dialog = byId('question');
  let answer = '';
  const choose = (value) => () => {
    answer = value;
    dialog.close();
  };
  const buttons = choices.map(({ label, value, danger }) =>
    h('button', { type: 'button', class: danger ? 'danger' : 'primary', onclick: choose(value) }, label));
  byId('question-title').textContent = title;
  byId('question-text').textContent = text;
  byId('question-choices').replaceChildren(h('button', { type: 'button', onclick: choose('') }, 'Cancel'), ...buttons);
  dialog.showModal();
  return new Promise((resolve) => { dialog.onclose = () => resolve(answer); });
}

let noticeTimer = 0;

/** Says for a while what did not work. */
export function notice(text) {
  clearTimeout(noticeTimer);
  byId('notice').textContent = text;
  noticeTimer = setTimeout(() => { byId('notice').textContent = ''; }, NOTICE_MS);
}

/** Asks whom to write to. `open(peerId, itemId)` opens the chat, or throws an error with a `message`. */
export function newChatDialog(open) {
  const dialog = byId('new-chat-dialog');
  const submit = dialog.querySelector('[type=submit]');
  byId('new-chat').onclick = () => {
    byId('new-chat-error').textContent = '';
    dialog.showModal();
  };
  byId('new-chat-cancel').onclick = () => dialog.close();
  dialog.querySelector('form').onsubmit = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await open(byId('peer-id').value.trim(), byId('item-id').value.trim());
      dialog.close();
      event.target.reset();
    } catch ({ message }) {
      byId('new-chat-error').textContent = message;
    } finally {
      submit.disabled = false;
    }
  };
}
