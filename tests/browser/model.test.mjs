// What model.js promises: what it asks for, when, and what survives a reload.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Model } from '../../edge/web/model.js';
import { conversation, heldMessages, unread } from '../../edge/web/selectors.js';

const NOTHING = '00000000-0000-0000-0000-000000000000';
const turn = () => new Promise((resolve) => { setTimeout(resolve); });
const after = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const message = (n, sender_id = 'bob') => ({ message_id: `m${n}`, chat_id: 'c', sender_id, seq: n, text: `${n}`, created_at: '2026-11-23T09:00:00Z' });
const chat = (more = {}) => ({ chat_id: 'c', peer: { user_id: 'bob' }, updated_at: '2026-11-23T09:00:00Z', ...more });

/** A messenger whose answers the test gives: `calls[n].resolve(result)`. */
class FakeMessenger {
  calls = [];
  state = { name: 'online' };
  #listeners = {};

  on(name, listener) {
    this.#listeners[name] = listener;
  }

  emit(name, params = {}) {
    this.#listeners[name](params);
  }

  connect() {}

  call(method, params) {
    return new Promise((resolve, reject) => { this.calls.push({ method, params, resolve, reject }); });
  }

  send(params) {
    return this.call('messages.send', params);
  }

  of(method) {
    return this.calls.filter((call) => call.method === method);
  }
}

function memory() {
  const items = new Map();
  const [getItem, setItem] = [(key) => items.get(key) ?? null, (key, value) => items.set(key, value)];
  return { items, getItem, setItem, removeItem: (key) => items.delete(key) };
}

function start({ me = 'alice', session = memory(), local = memory() } = {}) {
  const messenger = new FakeMessenger();
  const model = new Model({ messenger, me, session, local, changed: () => {} });
  model.start();
  return { messenger, model, session, local };
}

/** A model that has listed its one chat. */
async function listed(more) {
  const started = start();
  started.messenger.emit('session');
  started.messenger.calls[0].resolve({ chats: [chat(more)] });
  await turn();
  return started;
}

test('a first session lists the chats; a later one lists them only after a resync', async () => {
  const { messenger } = await listed();
  messenger.emit('session');
  assert.equal(messenger.of('chats.list').length, 1);
  messenger.emit('resync');
  assert.equal(messenger.of('chats.list').length, 2);
});

test('the conversation that is shown is loaded with the messages that are new in it, once', async () => {
  const { messenger, model } = await listed({ unread: 30, seq: 80 });
  model.show('c');
  model.show('c');
  assert.deepEqual(messenger.of('messages.history').map((call) => call.params), [{ chat_id: 'c', limit: 80 }]);
});

test('more unread than a page: the conversation is loaded around the first unread message, and grows from there', async () => {
  const { messenger, model } = await listed({ unread: 300, seq: 310, read_up_to: 'm010' });
  const page = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => message(String(from + i).padStart(3, '0')));
  const history = () => messenger.of('messages.history');
  model.show('c');
  assert.deepEqual(history()[0].params, { chat_id: 'c', limit: 50, after: 'm010' });
  history()[0].resolve({ messages: page(11, 60), has_more: true });
  await turn();
  assert.deepEqual(history()[1].params, { chat_id: 'c', limit: 50, before: 'm011' });
  history()[1].resolve({ messages: page(1, 10) });
  await turn();
  assert.deepEqual(model.state.history.c, { hasMore: false, until: 'm060' });
  model.loadNewer('c');
  assert.equal(history()[2].params.after, 'm060');
  history()[2].resolve({ messages: page(61, 310) });
  await turn();
  assert.deepEqual([model.state.history.c.until, heldMessages(model.state, 'c').length], ['', 310]);
});

test('a conversation is not loaded before its chat is, which says how much of it is unread', async () => {
  const { messenger, model } = start();
  model.show('c');
  messenger.of('chats.get')[0].reject(new Error('down'));
  await turn();
  assert.equal(messenger.of('messages.history').length, 0);
  model.show('c');
  messenger.of('chats.get')[1].resolve({ chat: chat({ unread: 300, seq: 300 }) });
  await turn();
  assert.equal(messenger.of('messages.history')[0].params.after, NOTHING);
});

test('a chat of which nothing was read is loaded from its beginning', async () => {
  const { messenger, model } = await listed({ unread: 300, seq: 300 });
  model.show('c');
  assert.equal(messenger.of('messages.history')[0].params.after, NOTHING);
});

test('a message that is held already is shown without asking; another one is loaded with those around it', async () => {
  const { messenger, model } = await listed();
  model.show('c');
  messenger.of('messages.history')[0].resolve({ messages: [message(5), message(6)], has_more: true });
  await turn();
  await model.showMessage('c', 'm5');
  assert.equal(messenger.of('messages.history').length, 1);
  model.showMessage('c', 'm2');
  await turn();
  assert.equal(messenger.of('messages.history')[1].params.after, 'm2');
});

test('what was received is told once for a burst, up to the newest; own messages and what was read are not told', async () => {
  const { messenger, model } = await listed();
  for (const n of [1, 2, 3]) messenger.emit('message.new', { message: message(n) });
  messenger.emit('message.new', { message: message(4, 'alice') });
  await after(200);
  assert.deepEqual(messenger.of('chats.mark_delivered').map((call) => call.params.up_to), ['m3']);
  messenger.of('chats.mark_delivered')[0].resolve({});
  messenger.emit('message.new', { message: message(5) });
  model.markRead('c', 'm5');
  await after(200);
  assert.equal(messenger.of('chats.mark_delivered').length, 1);
});

test('typing is told once in three seconds, not for an empty field, and again after a send', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  const { messenger, model } = await listed();
  for (const text of ['h', 'he', '', 'hel']) model.outgoing.draft('c', text);
  assert.equal(messenger.of('chats.typing').length, 1);
  t.mock.timers.tick(3_001);
  model.outgoing.draft('c', 'hell');
  assert.equal(messenger.of('chats.typing').length, 2);
  model.outgoing.send('c', 'hello');
  model.outgoing.draft('c', 'a');
  assert.equal(messenger.of('chats.typing').length, 3);
});

test('an edit is seen at once, and taken back when it is refused', async () => {
  const { messenger, model } = await listed();
  messenger.emit('message.new', { message: message(1, 'alice') });
  const text = () => conversation(model.state, 'c').at(-1).message.text;
  const edit = model.outgoing.edit(message(1, 'alice'), 'better').catch((error) => error.message);
  assert.equal(text(), 'better');
  messenger.of('messages.edit')[0].reject(new Error('too late'));
  assert.deepEqual([await edit, text()], ['too late', '1']);
});

test('people in the list are asked about once a session, in one call; those whom the user blocked are not', async () => {
  const started = start();
  const people = ['bob', 'carol', 'eve'].map((id) => chat({ chat_id: id, peer: { user_id: id }, blocked: id === 'eve' }));
  started.messenger.emit('session');
  started.messenger.calls[0].resolve({ chats: people });
  await turn();
  const asked = () => started.messenger.of('presence.get').map((call) => call.params.user_ids.sort());
  assert.deepEqual(asked(), [['bob', 'carol']]);
  started.messenger.emit('message.new', { message: { ...message(1), chat_id: 'bob' } });
  assert.equal(asked().length, 1);
  started.messenger.emit('session');
  assert.equal(asked().length, 2);
});

test('a chat that was never heard of is asked for when a message comes in it', async () => {
  const { messenger, model } = start();
  messenger.emit('message.new', { message: message(1) });
  assert.deepEqual(messenger.of('chats.get').map((call) => call.params), [{ chat_id: 'c' }]);
  messenger.calls[0].resolve({ chat: chat({ seq: 1, unread: 1 }) });
  await turn();
  assert.equal(unread(model.state, 'c'), 1);
});

test('reading is told once at a time, then up to the newest; never back', async () => {
  const { messenger, model } = await listed({ seq: 3, unread: 3 });
  for (const n of [1, 2, 3]) messenger.emit('message.new', { message: message(n) });
  for (const n of [1, 2, 3, 2]) model.markRead('c', `m${n}`);
  const reads = () => messenger.of('chats.mark_read').map((call) => call.params.up_to);
  assert.deepEqual([reads(), unread(model.state, 'c')], [['m1'], 0]);
  messenger.of('chats.mark_read')[0].resolve({ chat: chat({ seq: 3, unread: 2, read_up_to: 'm1' }) });
  await turn();
  assert.deepEqual([reads(), unread(model.state, 'c')], [['m1', 'm3'], 0]);
});

test('a read that could not be told is told after the next session', async () => {
  const { messenger, model } = await listed({ seq: 1, unread: 1 });
  model.markRead('c', 'm1');
  messenger.of('chats.mark_read')[0].reject({ retryable: true });
  await turn();
  messenger.emit('session');
  assert.deepEqual(messenger.of('chats.mark_read').map((call) => call.params.up_to), ['m1', 'm1']);
});

test('what was not sent in time goes again under its key after the next session; what was refused does not', async () => {
  const { messenger, model } = await listed();
  model.outgoing.send('c', 'late');
  model.outgoing.send('c', 'bad');
  const sends = () => messenger.of('messages.send');
  sends()[0].reject({ message: 'late', reason: 'CLIENT_TIMEOUT', retryable: true });
  sends()[1].reject({ message: 'no', reason: 'SPAM', retryable: false });
  await turn();
  assert.deepEqual(Object.values(model.state.pending).map((p) => p.error.reason), ['CLIENT_TIMEOUT', 'SPAM']);
  messenger.emit('session');
  assert.deepEqual(sends().map((call) => call.params.text), ['late', 'bad', 'late']);
  assert.equal(sends()[2].params.client_msg_id, sends()[0].params.client_msg_id);
});

test('a reload loses neither drafts nor what was not accepted yet, and sends it under its key', async () => {
  const { messenger, model, ...storages } = await listed();
  model.outgoing.draft('c', 'half');
  model.outgoing.send('d', 'on its way');
  const key = messenger.of('messages.send')[0].params.client_msg_id;
  const again = start(storages);
  assert.deepEqual(again.model.state.drafts, { c: 'half' });
  again.messenger.emit('session');
  const [resent] = again.messenger.of('messages.send');
  assert.equal(resent.params.client_msg_id, key);
  resent.resolve({ message: { ...message(1, 'alice'), chat_id: 'd', client_msg_id: key } });
  await turn();
  assert.deepEqual(again.model.state.pending, {});
  assert.deepEqual(start(storages).model.state.pending, {});
});

test('drafts are there for the same user in a new window, for no other one, until they are sent, emptied or forgotten', () => {
  const { model, local } = start();
  const drafts = (me) => start({ me, local }).model.state.drafts;
  for (const chatId of ['c', 'd', 'e']) model.outgoing.draft(chatId, 'half');
  assert.deepEqual([drafts('alice'), drafts('bob')], [{ c: 'half', d: 'half', e: 'half' }, {}]);
  model.outgoing.draft('c', '');
  model.outgoing.send('d', 'whole');
  assert.deepEqual(drafts('alice'), { e: 'half' });
  model.outgoing.forget();
  assert.deepEqual([drafts('alice'), local.items.size], [{}, 0]);
});

test('two windows of one user keep their drafts beside each other', () => {
  const { model, local } = start();
  const other = start({ local }).model;
  model.outgoing.draft('c', 'one');
  other.outgoing.draft('d', 'two');
  assert.deepEqual(start({ local }).model.state.drafts, { c: 'one', d: 'two' });
});

test('what could not be loaded is remembered, and loaded when it is asked for again', async () => {
  const { messenger, model } = await listed();
  model.show('c');
  messenger.of('messages.history')[0].reject(new Error('down'));
  await turn();
  assert.equal(model.failures.get('c').message, 'down');
  model.retryLoading();
  assert.equal(messenger.of('messages.history').length, 2);
  messenger.of('messages.history')[1].resolve({ messages: [message(1)] });
  await turn();
  assert.equal(model.failures.size, 0);
});

test('a person who was unblocked on another device is asked about again', async () => {
  const { messenger } = await listed({ blocked: true, version: 1 });
  assert.equal(messenger.of('presence.get').length, 0);
  messenger.emit('chat.updated', { chat: chat({ version: 2 }) });
  assert.deepEqual(messenger.of('presence.get').map(({ params }) => params), [{ user_ids: ['bob'] }]);
});
