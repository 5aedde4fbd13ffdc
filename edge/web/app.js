/** The page: signs in, follows the address bar, and draws the model. Rules are in store.js, the protocol in messenger.js. */

import { ChatListView, avatar } from './chat-list.js';
import { ConversationView } from './conversation.js';
import { Messenger, subject } from './messenger.js';
import { Model } from './model.js';
import { totalUnread } from './store.js';

const STATUS_DELAY_MS = 1_200; // a connection that is back sooner was never worth a word
const TOO_MANY_SESSIONS = 4503;
const SIGNED_OUT = { 4501: 'This token was not accepted.', 4502: 'The token has expired. Sign in with a new one.' };
const MISSING = { profiles: 'names and pictures', items: 'items', presence: 'who is online' };

const byId = (id) => document.getElementById(id);

let messenger = null;
let model = null;
let openId = '';
let scheduled = false;
let statusTimer = 0;

const list = new ChatListView({ loadMore: () => model.loadMoreChats() });
const conversation = new ConversationView({
  send: (chatId, text) => model.send(chatId, text),
  draft: (chatId, text) => model.draft(chatId, text),
  older: (chatId) => model.failures.has(chatId) || model.loadOlder(chatId),
  retry: (id) => model.retry(id),
  discard: (id) => model.discard(id),
  reload: () => model.retryLoading(),
  seen: () => markSeen(),
});

// --- signing in ------------------------------------------------------------------------------------------------------

function signIn(token) {
  if (!subject(token)) return signOut('This is not a token: three parts of text, joined by dots, are expected.');
  messenger?.close();
  sessionStorage.setItem('token', token);
  messenger = new Messenger({ token });
  model = new Model({ messenger, me: subject(token), storage: sessionStorage, changed: schedule });
  byId('my-name').textContent = subject(token);
  byId('my-avatar').replaceChildren(avatar({ user_id: subject(token) }));
  byId('sign-in').hidden = true;
  byId('messenger').hidden = false;
  openId = '';
  follow();
  model.start().catch(({ reason }) => reason); // drawn from the state
  render();
}

function signOut(why = '') {
  messenger?.close();
  messenger = model = null;
  sessionStorage.removeItem('token');
  byId('messenger').hidden = true;
  byId('sign-in').hidden = false;
  byId('sign-in-error').textContent = why;
  document.title = 'Messenger';
  byId('token').focus();
}

byId('sign-in').onsubmit = (event) => {
  event.preventDefault();
  const token = byId('token').value.trim();
  byId('token').value = '';
  signIn(token);
};
byId('sign-out').onclick = () => signOut();

// --- the address: #token=… signs in, #chat=… opens ---------------------------------------------------------------------

function follow() {
  const address = new URLSearchParams(location.hash.slice(1));
  const token = address.get('token');
  if (token !== null) {
    address.delete('token'); // it must not stay where it can be read or shared
    history.replaceState(null, '', location.pathname + (address.size ? `#${address}` : ''));
    return signIn(token.trim());
  }
  if (model) show(address.get('chat') ?? '');
}

function show(chatId) {
  const previous = openId;
  openId = chatId;
  byId('messenger').dataset.view = chatId ? 'chat' : 'list';
  if (chatId !== previous || !chatId) conversation.open(chatId, model.state);
  model.show(chatId);
  render();
  if (chatId && !matchMedia('(pointer: coarse)').matches) conversation.focus();
  if (!chatId && previous) list.focus(previous);
}

addEventListener('hashchange', follow);

// --- drawing ---------------------------------------------------------------------------------------------------------

/** One drawing for all the changes of a turn; not by animation frames, which a hidden window does not get. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  queueMicrotask(() => {
    scheduled = false;
    render();
  });
}

function render() {
  if (!model) return;
  const { state, connection, failures } = model;
  if (connection.name === 'closed' && SIGNED_OUT[connection.code]) return void signOut(SIGNED_OUT[connection.code]);
  list.render(state, openId, failures.get('chats'));
  conversation.render(state, { attended: attended(), failure: failures.get(openId) ?? failures.get(`chat ${openId}`) });
  renderStatus(state, connection);
  const count = totalUnread(state);
  document.title = count ? `(${count}) Messenger` : 'Messenger';
  markSeen();
}

function renderStatus(state, connection) {
  clearTimeout(statusTimer);
  const line = statusLine(state, connection);
  const write = () => {
    if (byId('status').textContent === line.join('')) return;
    byId('status').replaceChildren(line[0], ...(line[1] ? [againButton(line[1])] : []));
  };
  if (connection.name === 'online' || !navigator.onLine || byId('status').textContent) write();
  else statusTimer = setTimeout(write, STATUS_DELAY_MS);
}

/** [text, label of a button that connects again?] */
function statusLine({ degraded }, { name, code, reason, transport }) {
  if (name === 'closed' && code === TOO_MANY_SESSIONS) return ['You are signed in in too many windows. ', 'Use this one'];
  if (name === 'closed') return [`The connection was refused${reason ? `: ${reason}` : ''}. `, 'Try again'];
  if (!navigator.onLine) return ['You are offline. What you write is sent when you are back.'];
  if (name !== 'online') return ['Connecting…'];
  if (degraded.length) return [`At the moment without ${degraded.map((part) => MISSING[part] ?? part).join(', ')}.`];
  return [transport === 'http' ? 'Connected without WebSocket: messages may take a little longer.' : ''];
}

function againButton(label) {
  const button = document.createElement('button');
  button.textContent = label;
  button.onclick = () => messenger.connect().catch(({ reason }) => reason);
  return button;
}

// --- reading ---------------------------------------------------------------------------------------------------------

const attended = () => document.visibilityState === 'visible' && document.hasFocus();

function markSeen() {
  if (!model?.state.chats[openId] || !attended()) return;
  const upTo = conversation.seenUpTo();
  if (upTo) model.markRead(openId, upTo);
}

addEventListener('focus', schedule);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'visible') return;
  messenger?.wake();
  schedule();
});
addEventListener('online', () => (messenger?.wake(), schedule()));
addEventListener('offline', schedule);

// --- a new chat ------------------------------------------------------------------------------------------------------

const dialog = byId('new-chat-dialog');

byId('new-chat').onclick = () => {
  byId('new-chat-error').textContent = '';
  dialog.showModal();
};
byId('new-chat-cancel').onclick = () => dialog.close();

dialog.querySelector('form').onsubmit = async (event) => {
  event.preventDefault();
  const submit = dialog.querySelector('[type=submit]');
  submit.disabled = true;
  try {
    const chatId = await model.open(byId('peer-id').value.trim(), byId('item-id').value.trim());
    dialog.close();
    event.target.reset();
    location.hash = `chat=${chatId}`;
  } catch (error) {
    byId('new-chat-error').textContent = error.message;
  } finally {
    submit.disabled = false;
  }
};

addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && openId && !dialog.open) location.hash = '';
});

follow();
if (!model) {
  const token = sessionStorage.getItem('token');
  if (token) signIn(token);
  else signOut();
}
