/** The field in which the user writes: a new message, or another text for one that was sent. */

import { lengthOf } from './format.js';

const MAX_TEXT = 4_096;
const COUNT_FROM = 3_800;

const byId = (id) => document.getElementById(id);

export class Composer {
  #actions;
  #text = byId('text');
  #form = byId('composer');
  #edited = null; // the message that gets another text
  #kept = ''; // what was written before the editing began

  /**
   * Actions: `send(text)`, `edit(message, text)`, `draft(text)`, `editing(message, text)` with null when it is over,
   * `lastOwn()` the message that arrow-up edits.
   */
  constructor(actions) {
    this.#actions = actions;
    this.#text.oninput = () => this.#typed();
    this.#text.onkeydown = (event) => this.#key(event);
    this.#form.onsubmit = (event) => (event.preventDefault(), this.#submit());
    byId('edit-cancel').onclick = () => this.endEdit();
  }

  /** Another chat: what was written for it so far, and `{message, text}` where a message of it is being edited. */
  open(draft, edit = null) {
    this.#kept = draft;
    this.#edited = edit?.message ?? null;
    byId('editing').hidden = !edit;
    byId('editing-text').textContent = edit?.message.text ?? '';
    this.#write(edit?.text ?? draft);
  }

  focus() {
    this.#text.focus();
  }

  edit(message) {
    this.open(this.#edited ? this.#kept : this.#text.value, { message, text: message.text });
    this.#actions.editing(message, message.text);
    this.focus();
  }

  endEdit() {
    this.open(this.#kept);
    this.#actions.editing(null);
    this.focus();
  }

  /** As high as the text; must be called again when the field was hidden. */
  fit() {
    const length = lengthOf(this.#text.value);
    byId('text-left').textContent = length > COUNT_FROM ? String(MAX_TEXT - length) : '';
    this.#form.classList.toggle('too-long', length > MAX_TEXT);
    this.#form.classList.toggle('ready', this.#text.value.trim() !== '' && length <= MAX_TEXT);
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
  }

  #write(text) {
    this.#text.value = text;
    this.fit();
  }

  #typed() {
    this.fit();
    if (this.#edited) this.#actions.editing(this.#edited, this.#text.value);
    else this.#actions.draft(this.#text.value);
  }

  /** Enter sends; on a touch keyboard, which has no Shift+Enter, it breaks the line. */
  #key(event) {
    if (event.key === 'Escape' && this.#edited) return this.#handled(event, () => this.endEdit());
    if (event.key === 'ArrowUp' && !this.#text.value && !this.#edited) {
      const message = this.#actions.lastOwn();
      return message && this.#handled(event, () => this.edit(message));
    }
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
    this.#handled(event, () => this.#submit());
  }

  #handled(event, act) {
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #submit() {
    const text = this.#text.value.trim();
    if (!text || lengthOf(text) > MAX_TEXT) return;
    const edited = this.#edited;
    if (edited) {
      this.endEdit();
      if (text !== edited.text) this.#actions.edit(edited, text);
      return;
    }
    this.#write('');
    this.#actions.send(text);
    this.focus();
  }
}
