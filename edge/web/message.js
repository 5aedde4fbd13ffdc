/** How a row of a conversation looks: a day line, the line before what is new, a message. */

import { h, icon } from './dom.js';
import { clock, dayName, exactly, linked } from './format.js';

const STATUS = { sending: 'Sending', sent: 'Sent', delivered: 'Delivered', read: 'Read', failed: 'Not sent' };
const GONE = 'Deleted message';

/** Says when a row must be drawn anew. */
export function signature(row, now) {
  if (row.kind !== 'message') return `${row.kind} ${dayName(row.date ?? now, now)}`;
  const { message, status, first, last } = row;
  return JSON.stringify([message.message_id, message.text, message.edited_at, message.deleted, message.error, status, first, last]);
}

/** The row's element; `actions`: `retry(id)`, `discard(id)`, `menu(element)`. Changes the old one where there is one. */
export function drawRow(row, old, { now, name, actions }) {
  if (row.kind === 'day') return h('li', { class: 'day' }, h('span', {}, dayName(row.date, now)));
  if (row.kind === 'new') return h('li', { class: 'new-line' }, h('span', {}, 'New messages'));
  return drawMessage(row, old, { name, actions });
}

function drawMessage({ message, status, first, last }, old, { name, actions }) {
  const own = status !== '';
  const element = old ?? h('li', { tabindex: '-1' },
    h('div', { class: 'bubble' },
      h('span', { class: 'visually-hidden' }, own ? 'You: ' : `${name}: `),
      h('span', { class: 'text', dir: 'auto' }),
      h('span', { class: 'meta' })),
    h('button', { type: 'button', class: 'more', tabindex: '-1', 'aria-label': 'Message actions', 'aria-haspopup': 'menu' }, icon('more')));
  const classes = ['message', own ? 'own' : 'theirs', first && 'first', last && 'last', status, message.deleted && 'deleted'];
  element.className = classes.filter(Boolean).join(' ');
  if (message.message_id) element.dataset.id = message.message_id;
  element.querySelector('.more').hidden = !message.message_id || Boolean(message.deleted);
  const text = element.querySelector('.text');
  const words = message.deleted ? GONE : message.text;
  if (text.textContent !== words) text.replaceChildren(...linked(words).map(textOrLink));
  const at = new Date(message.created_at);
  element.querySelector('.meta').replaceChildren(
    message.edited_at && !message.deleted ? h('span', {}, 'edited') : '',
    h('time', { datetime: message.created_at, title: exactly(at) }, clock(at)),
    own && !message.deleted ? icon(status, STATUS[status]) : '');
  element.querySelector('.failure')?.remove();
  if (status === 'failed') element.append(drawFailure(message, actions));
  return element;
}

function drawFailure({ client_msg_id: id, error }, actions) {
  const blocked = { BLOCKED: 'you blocked this person', BLOCKED_BY_PEER: 'this person does not take messages from you' }[error.reason];
  return h('p', { class: 'failure' }, error.retryable ? 'Not sent. ' : `Not sent: ${blocked ?? error.message}. `,
    h('button', { type: 'button', onclick: () => actions.retry(id) }, 'Try again'),
    h('button', { type: 'button', onclick: () => actions.discard(id) }, 'Discard'));
}

const textOrLink = ({ text, href }) =>
  (href ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, text) : text);
