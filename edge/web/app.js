/** The page: puts the parts together, follows the address bar, and draws the model. Rules are in store.js, the protocol in messenger.js. */

import { ChatListView, avatar } from './chat-list.js';
import { ConversationView } from './conversation.js';
import { ask, newChatDialog, notice } from './dialogs.js';
import { nameOf } from './format.js';
import { menuIsOpen } from './menu.js';
import { Messenger, subject } from './messenger.js';
import { Model } from './model.js';
import { FindBar, SearchView } from './search.js';
import { totalUnread } from './selectors.js';
import { SignIn } from './sign-in.js';
import { StatusLine } from './status.js';

const WATCH_MS = 4 * 60_000; // the server tells of people for five minutes
const MINUTE_MS = 60_000; // how often times like "5 minutes ago" are drawn anew
const SIGNED_OUT = { 4501: 'This token was not accepted.', 4502: 'The token has expired. Sign in with a new one.' };

const byId = (id) => document.getElementById(id);

let messenger = null;
let model = null;
let openId = '';
let scheduled = false;

const signIn = new SignIn(start);
const status = new StatusLine({ connect: () => messenger.connect().catch(({ reason }) => reason) });
const list = new ChatListView({ loadMore: () => model.loadMoreChats() });
const find = (query, chatId, cursor) => model.search(query, chatId, cursor);
const search = new SearchView({ find, render: schedule });
const findBar = new FindBar({ find, jump, closed: () => conversation.focus() });
const conversation = new ConversationView({
  send: (chatId, text) => model.outgoing.send(chatId, text),
  edit: (message, text) => model.outgoing.edit(message, text).catch(complain('The message was not changed')),
  remove,
  draft: (chatId, text) => model.outgoing.draft(chatId, text),
  editing: (chatId, message, text) => model.outgoing.editing(chatId, message, text),
  older: (chatId) => model.failures.has(chatId) || model.loadOlder(chatId),
  newer: (chatId) => model.failures.has(chatId) || model.loadNewer(chatId),
  newest: (chatId) => model.showNewest(chatId),
  retry: (id) => model.outgoing.retry(id),
  discard: (id) => model.outgoing.discard(id),
  reload: () => model.retryLoading(),
  setBlocked,
  seen: () => markSeen(),
});

// --- signing in and out ----------------------------------------------------------------------------------------------

function start(token) {
  const me = subject(token);
  model?.stop();
  messenger = new Messenger({ token, refresh: () => signIn.refresh() });
  model = new Model({ messenger, me, session: sessionStorage, local: localStorage, changed: schedule });
  byId('my-name').textContent = me;
  byId('my-avatar').replaceChildren(avatar({ user_id: me }));
  byId('messenger').hidden = false;
  openId = '';
  conversation.clear();
  model.start().catch(({ reason }) => reason); // drawn from the state
  follow();
  render();
}

function signOut(why) {
  model?.stop();
  messenger = model = null;
  openId = '';
  history.replaceState(null, '', location.pathname);
  search.clear();
  byId('messenger').hidden = true;
  document.title = 'Messenger';
  signIn.show(why);
}

byId('sign-out').onclick = () => (model.outgoing.forget(), signOut());

// --- the address: #token=… signs in, #chat=…&message=… opens ------------------------------------------------------------

function follow() {
  const address = new URLSearchParams(location.hash.slice(1));
  const token = address.get('token');
  if (token !== null) {
    address.delete('token'); // it must not stay where it can be read or shared
    history.replaceState(null, '', location.pathname + (address.size ? `#${address}` : ''));
    return signIn.accept(token.trim());
  }
  const [chatId, messageId] = [address.get('chat') ?? '', address.get('message') ?? ''];
  if (messageId) history.replaceState(null, '', `${location.pathname}#chat=${chatId}`); // so that it can be chosen again
  if (model && messageId) jump(chatId, messageId);
  else if (model) show(chatId);
}

function show(chatId, messageId = '') {
  const previous = openId;
  openId = chatId;
  if (chatId !== previous || !chatId) {
    conversation.open(chatId, model.state, messageId); // while the one before is in view: what is hidden has no place
    findBar.close();
  }
  byId('messenger').dataset.view = chatId ? 'chat' : 'list';
  if (!messageId) model.show(chatId);
  render();
  if (chatId && !matchMedia('(pointer: coarse)').matches && byId('find-bar').hidden) conversation.focus();
  if (!chatId && previous) list.focus(previous);
}

/** Opens a chat at a message. */
async function jump(chatId, messageId) {
  const moved = openId !== chatId;
  const loaded = model.showMessage(chatId, messageId);
  if (moved) show(chatId, messageId);
  await loaded;
  await model.show(chatId);
  if (openId === chatId && model.state.chats[chatId]) conversation.jump(messageId);
}

addEventListener('hashchange', follow);
newChatDialog(async (peerId, itemId) => { location.hash = `chat=${await model.open(peerId, itemId)}`; });
byId('find-open').onclick = () => findBar.open(openId);

// --- what cannot be taken back ---------------------------------------------------------------------------------------

async function remove(message) {
  const own = message.sender_id === model.state.me;
  const answer = await ask('Delete this message?', 'It cannot be brought back.', [
    { label: 'For me', value: 'me', danger: true },
    ...(own ? [{ label: 'For everyone', value: 'all', danger: true }] : []),
  ]);
  if (answer) model.outgoing.delete(message, answer === 'all').catch(complain('The message was not deleted'));
}

async function setBlocked(peer, blocked) {
  const [title, text] = [`Block ${nameOf(peer)}?`, 'You will not get messages from each other, nor see who is online.'];
  const sure = !blocked || await ask(title, text, [{ label: 'Block', value: 'block', danger: true }]);
  const what = blocked ? 'The person was not blocked' : 'The person was not unblocked';
  if (sure) await model.setBlocked(peer.user_id, blocked).catch(complain(what));
}

const complain = (what) => ({ message }) => notice(`${what}: ${message}`);

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
  const online = connection.name === 'online';
  list.render(state, { openId, online, failure: failures.get('chats') });
  search.render(state);
  conversation.render(state, { attended: attended(), online, failure: failures.get(openId) ?? failures.get(`chat ${openId}`) });
  status.render(state, connection);
  const count = totalUnread(state);
  document.title = count ? `(${count}) Messenger` : 'Messenger';
  markSeen();
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
  model?.watchPeople();
  schedule();
});
addEventListener('online', () => (messenger?.wake(), schedule()));
addEventListener('offline', () => (messenger?.wake(), schedule()));
setInterval(() => document.visibilityState === 'visible' && model?.watchPeople(), WATCH_MS);
setInterval(schedule, MINUTE_MS);

addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && openId && !menuIsOpen() && !document.querySelector('dialog[open]')) location.hash = '';
});

follow();
if (!model) signIn.resume();
