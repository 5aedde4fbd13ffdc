// What model.js promises: what it asks for, when, and what survives a reload.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Model } from '../../edge/web/model.js';
import { unread } from '../../edge/web/store.js';

const turn = () => new Promise((resolve) => { setTimeout(resolve); });
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
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
}

function start({ storage = memory() } = {}) {
  const messenger = new FakeMessenger();
  const model = new Model({ messenger, me: 'alice', storage, changed: () => {} });
  model.start();
  return { messenger, model, storage };
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
  model.send('c', 'late');
  model.send('c', 'bad');
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
  const { messenger, model, storage } = await listed();
  model.draft('c', 'half');
  model.send('d', 'on its way');
  const key = messenger.of('messages.send')[0].params.client_msg_id;
  const again = start({ storage });
  assert.deepEqual(again.model.state.drafts, { c: 'half' });
  again.messenger.emit('session');
  const [resent] = again.messenger.of('messages.send');
  assert.equal(resent.params.client_msg_id, key);
  resent.resolve({ message: { ...message(1, 'alice'), chat_id: 'd', client_msg_id: key } });
  await turn();
  assert.deepEqual(again.model.state.pending, {});
  assert.deepEqual(start({ storage }).model.state.pending, {});
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
