// What store.js promises: the state comes out the same, however often and in whatever order things arrive.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { chatList, conversation, heldMessages, lastOwn, statusOf, totalUnread, unread } from '../../edge/web/selectors.js';
import { initialState, reduce } from '../../edge/web/store.js';

const CHAT = 'c1';
const id = (n) => `0190-${String(n).padStart(4, '0')}`;
const at = (n) => new Date(Date.UTC(2026, 10, 23, 9, 0, n)).toISOString();

const message = (n, sender = 'bob', more = {}) =>
  ({ message_id: id(n), chat_id: CHAT, sender_id: sender, seq: n, text: `text ${n}`, created_at: at(n), ...more });
const chat = (more = {}) => ({ chat_id: CHAT, peer: { user_id: 'bob', name: 'Bob Brown' }, updated_at: at(0), ...more });
const news = (n, ...rest) => ({ type: 'message.new', message: message(n, ...rest) });
const fold = (actions, state = initialState('alice')) => actions.reduce(reduce, state);
const ids = (state) => state.messages[CHAT].map((m) => m.message_id);

/** All orders of a short list. */
function* permutations(items) {
  if (!items.length) yield [];
  for (const [i, item] of items.entries()) {
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [item, ...rest];
  }
}

test('messages stand in the order of message_id, each once, whatever the order and number of arrivals', () => {
  for (const order of permutations([news(1), news(2), news(3), news(2)])) {
    assert.deepEqual(ids(fold(order)), [id(1), id(2), id(3)]);
  }
  const overtaken = [news(2, 'alice', { seq: 1 }), news(1, 'bob', { seq: 2 })];
  assert.deepEqual(ids(fold(overtaken)), [id(1), id(2)], 'seq is the order of arrival, not of display');
});

test('snapshot and events make the state of a fresh snapshot, in every order', () => {
  const start = fold([{ type: 'chats', chats: [chat({ seq: 1, unread: 1, last_message: message(1) })] }]);
  const events = [
    news(2),
    { type: 'chat', chat: chat({ seq: 2, unread: 2, last_message: message(2), updated_at: at(2) }) },
    { type: 'receipt.read', chat_id: CHAT, user_id: 'alice', up_to: id(2) },
    { type: 'chat', chat: chat({ seq: 2, unread: 0, read_up_to: id(2), last_message: message(2), updated_at: at(2) }) },
    news(3),
  ];
  for (const order of permutations(events)) {
    const state = fold(order, start);
    assert.equal(unread(state, CHAT), 1, JSON.stringify(order));
    assert.equal(state.chats[CHAT].last_message.message_id, id(3));
    assert.equal(state.chats[CHAT].read_up_to, id(2));
  }
});

test('a message that the snapshot has counted is not counted again', () => {
  const state = fold([{ type: 'chat', chat: chat({ seq: 2, unread: 2, last_message: message(2) }) }, news(2), news(1)]);
  assert.equal(unread(state, CHAT), 2);
});

test('own messages, also from another device, are never unread', () => {
  assert.equal(unread(fold([{ type: 'chat', chat: chat() }, news(1, 'alice')]), CHAT), 0);
});

test('a partial read counts down before the server answers, and a stale snapshot does not count up again', () => {
  const stale = { type: 'chat', chat: chat({ seq: 3, unread: 3, last_message: message(3) }) };
  const read = { type: 'receipt.read', chat_id: CHAT, user_id: 'alice', up_to: id(2) };
  const state = fold([stale, news(1), news(2), news(3), read]);
  assert.equal(unread(state, CHAT), 1);
  assert.equal(unread(fold([stale], state), CHAT), 1);
  assert.equal(totalUnread(state), 1);
});

test('a snapshot that comes late takes nothing back', () => {
  const pointers = { read_up_to: id(4), peer_read_up_to: id(3) };
  const fresh = { type: 'chat', chat: chat({ seq: 6, unread: 2, ...pointers }) };
  const stale = { type: 'chat', chat: chat({ seq: 5, unread: 1, read_up_to: id(4), peer_read_up_to: id(2) }) };
  const staler = { type: 'chat', chat: chat({ seq: 5, unread: 4, read_up_to: id(1) }) };
  const state = fold([fresh, stale, staler]);
  assert.equal(unread(state, CHAT), 2);
  assert.deepEqual([state.chats[CHAT].read_up_to, state.chats[CHAT].peer_read_up_to], [id(4), id(3)]);
});

test('ticks: sending, sent, read by the peer, and a pointer that never goes back', () => {
  const own = message(2, 'alice', { client_msg_id: 'k' });
  const state = fold([{ type: 'chat', chat: chat() }, news(1, 'alice'), { type: 'message.new', message: own }]);
  assert.equal(statusOf(state, { sender_id: 'alice' }), 'sending');
  assert.equal(statusOf(state, own), 'sent');
  const read = (n) => ({ type: 'receipt.read', chat_id: CHAT, user_id: 'bob', up_to: id(n) });
  assert.equal(statusOf(fold([read(1)], state), own), 'sent');
  assert.equal(statusOf(fold([read(2), read(1)], state), own), 'read');
  assert.equal(statusOf(state, message(3)), '');
});

test('a pending message becomes the accepted one, once, under the same key', () => {
  const queued = { type: 'queued', message: { chat_id: CHAT, text: 'hi', client_msg_id: 'k', created_at: at(9) } };
  const before = fold([{ type: 'chat', chat: chat() }, queued]);
  const echo = { type: 'message.new', message: message(1, 'alice', { client_msg_id: 'k' }) };
  const after = fold([echo, echo], before);
  const row = (state) => conversation(state, CHAT).filter(({ kind }) => kind === 'message');
  assert.equal(row(before)[0].status, 'sending');
  assert.deepEqual(row(after).map(({ key, status }) => [key, status]), [[row(before)[0].key, 'sent']]);
  assert.deepEqual(after.pending, {});
});

test('a failed send says so, can be queued again, and can be dropped', () => {
  const queued = { type: 'queued', message: { chat_id: CHAT, text: 'hi', client_msg_id: 'k', created_at: at(9) } };
  const failed = fold([queued, { type: 'failed', client_msg_id: 'k', error: { message: 'no', retryable: false } }]);
  assert.equal(conversation(failed, CHAT).at(-1).status, 'failed');
  assert.equal(conversation(fold([queued], failed), CHAT).at(-1).status, 'sending');
  assert.equal(conversation(fold([{ type: 'dropped', client_msg_id: 'k' }], failed), CHAT).length, 0);
});

test('older pages go in front; a page that was asked for before the window moved is left out', () => {
  const page = (from, to, more) =>
    ({ type: 'history', chat_id: CHAT, messages: Array.from({ length: to - from + 1 }, (_, i) => message(from + i)), ...more });
  const state = fold([page(11, 20, { has_more: true }), page(6, 10, { before: id(11), has_more: true })]);
  assert.deepEqual([ids(state)[0], ids(state).length, state.history[CHAT].hasMore], [id(6), 15, true]);
  assert.equal(fold([page(1, 5, { before: id(11) })], state), state);
  assert.equal(fold([page(1, 5, { before: id(6) })], state).history[CHAT].hasMore, false);
});

test('after a resync the newest page replaces what may have holes; without one it only adds', () => {
  const page = { type: 'history', chat_id: CHAT, messages: [message(20), message(21)], has_more: true };
  const held = fold([{ type: 'history', chat_id: CHAT, messages: [message(1)] }, news(21)]);
  assert.deepEqual(ids(fold([page], held)), [id(1), id(20), id(21)]);
  assert.deepEqual(ids(fold([{ type: 'resync' }, page], held)), [id(20), id(21)]);
});

test('chats: newest activity first, reading moves none, and names stay when an answer comes without', () => {
  const other = { chat_id: 'c2', peer: { user_id: 'carol' }, last_message: { ...message(5), chat_id: 'c2' } };
  const order = (state) => chatList(state).map((c) => c.chat_id);
  const state = fold([{ type: 'chats', chats: [chat({ last_message: message(3) }), other], next_cursor: 'n', degraded: ['items'] }]);
  assert.deepEqual(order(state), ['c2', CHAT]);
  assert.deepEqual([state.nextCursor, state.degraded], ['n', ['items']]);
  const bare = fold([{ type: 'chat', chat: { chat_id: CHAT, peer: { user_id: 'bob' }, updated_at: at(9), read_up_to: id(3) } }], state);
  assert.deepEqual(order(bare), ['c2', CHAT]);
  assert.equal(bare.chats[CHAT].peer.name, 'Bob Brown');
  assert.deepEqual(order(fold([news(6)], bare)), [CHAT, 'c2']);
});

test('a conversation has a line a day, groups by sender and time, and one line before what is new', () => {
  const late = message(5, 'bob', { created_at: '2026-11-25T12:00:00Z' });
  const state = fold([{ type: 'history', chat_id: CHAT, messages: [message(1), message(2), message(3, 'alice'), message(4), late] }]);
  const shape = conversation(state, CHAT, { newAfter: id(2) }).map(({ kind, first, last }) => (kind === 'message' ? [first, last] : kind));
  assert.deepEqual(shape, ['day', [true, false], [false, true], [true, true], 'new', [true, true], 'day', [true, true]]);
  const split = conversation(state, CHAT, { newAfter: id(1) }).slice(1, 4).map(({ first, last }) => [first, last]);
  assert.deepEqual(split, [[true, true], [undefined, undefined], [true, true]], 'the line splits a group');
  const partly = fold([{ type: 'history', chat_id: CHAT, messages: [message(4)], has_more: true }]);
  assert.ok(!conversation(partly, CHAT, { newAfter: id(2) }).some(({ kind }) => kind === 'new'), 'the first new one is not loaded yet');
});

test('drafts are kept by chat, and an empty one is none', () => {
  const draft = (text) => ({ type: 'draft', chat_id: CHAT, text });
  assert.deepEqual(fold([draft('half')]).drafts, { [CHAT]: 'half' });
  assert.deepEqual(fold([draft('half'), draft('')]).drafts, {});
});

test('of more than a hundred drafts the ones that were written last stay', () => {
  const draft = (n) => ({ type: 'draft', chat_id: `chat ${n}`, text: 'half' });
  const { drafts } = fold([...Array(100).keys(), 0, 100].map(draft));
  assert.deepEqual([Object.keys(drafts).length, 'chat 0' in drafts, 'chat 1' in drafts, 'chat 100' in drafts], [100, true, false, true]);
});

const edited = (n, text, second) => ({ type: 'message.updated', message: message(n, 'bob', { text, edited_at: at(second) }) });
const deleted = (n) => ({ type: 'message.deleted', chat_id: CHAT, message_id: id(n) });

test('edits and deletions come out the same in every order: the last edit, and what is deleted stays so', () => {
  const start = fold([{ type: 'chat', chat: chat({ seq: 1, last_message: message(1) }) }, news(1)]);
  for (const order of permutations([edited(1, 'b', 30), edited(1, 'c', 31), news(1)])) {
    const state = fold(order, start);
    assert.deepEqual([state.messages[CHAT][0].text, state.chats[CHAT].last_message.text], ['c', 'c']);
  }
  for (const order of permutations([edited(1, 'b', 30), deleted(1), news(1)])) {
    const state = fold(order, start);
    assert.deepEqual([state.messages[CHAT][0].deleted, state.messages[CHAT][0].text], [true, '']);
    assert.ok(state.chats[CHAT].last_message.deleted);
  }
});

test('an edit of a message that is not held adds none, and a deleted one is not unread', () => {
  const start = fold([{ type: 'chat', chat: chat({ seq: 0 }) }]);
  assert.equal(fold([edited(3, 'x', 30)], start).messages[CHAT], undefined);
  assert.equal(unread(fold([news(1), news(2), deleted(2)], start), CHAT), 1);
});

test('a page that was read before a change and comes after it shows the change, also in the list', () => {
  const page = { type: 'history', chat_id: CHAT, messages: [message(1), message(2)] };
  const snapshot = { type: 'chats', chats: [chat({ seq: 2, last_message: message(2) })] };
  for (const order of permutations([page, snapshot, edited(2, 'b', 30), edited(2, 'c', 31)])) {
    const state = fold(order);
    assert.deepEqual([ids(state), state.messages[CHAT][1].text], [[id(1), id(2)], 'c'], JSON.stringify(order));
    assert.equal(state.chats[CHAT].last_message.text, 'c');
  }
  for (const order of permutations([page, snapshot, edited(2, 'b', 30), deleted(2)])) {
    const state = fold(order);
    assert.deepEqual([state.messages[CHAT][1].deleted, state.messages[CHAT][1].text], [true, '']);
    assert.deepEqual([state.chats[CHAT].last_message.deleted, state.chats[CHAT].last_message.text], [true, '']);
  }
});

test('only so many changes are remembered', () => {
  const many = Array.from({ length: 600 }, (_, n) => edited(n, 'x', 30));
  assert.deepEqual([Object.keys(fold(many).changed).length, fold(many).changed[id(599)].text], [500, 'x']);
});

test('a change is shown until it is answered, with the mark of what is under way', () => {
  const state = fold([{ type: 'chat', chat: chat() }, news(1, 'alice'), { type: 'changing', message_id: id(1), change: { text: 'new' } }]);
  const shown = (s) => { const { message: m, status } = conversation(s, CHAT).at(-1); return [m.text, status]; };
  assert.deepEqual(shown(state), ['new', 'sending']);
  assert.deepEqual(shown(fold([{ type: 'changing', message_id: id(1), change: null }], state)), ['text 1', 'sent']);
});

test('delivered stands between sent and read, and only the peer delivers', () => {
  const own = message(2, 'alice');
  const state = fold([{ type: 'chat', chat: chat() }, { type: 'message.new', message: own }]);
  const receipt = (kind, user, n) => ({ type: `receipt.${kind}`, chat_id: CHAT, user_id: user, up_to: id(n) });
  assert.equal(statusOf(fold([receipt('delivered', 'alice', 2)], state), own), 'sent');
  assert.equal(statusOf(fold([receipt('delivered', 'bob', 2), receipt('delivered', 'bob', 1)], state), own), 'delivered');
  assert.equal(statusOf(fold([receipt('read', 'bob', 2), receipt('delivered', 'bob', 2)], state), own), 'read');
});

test('typing ends with a message of who typed, with nobody, and not with a message of oneself', () => {
  const typing = (user) => ({ type: 'typing', chat_id: CHAT, user_id: user });
  const state = fold([{ type: 'chat', chat: chat() }, typing('bob')]);
  assert.deepEqual(state.typing, { [CHAT]: 'bob' });
  assert.deepEqual(fold([news(1, 'alice')], state).typing, { [CHAT]: 'bob' });
  for (const end of [typing(''), news(1)]) assert.deepEqual(fold([end], state).typing, {});
});

test('blocking marks every chat with the person, whose presence is forgotten; a snapshot says what is true now', () => {
  const about = chat({ chat_id: 'c2', item: { item_id: 'bike' } });
  const there = { type: 'presence', presence: [{ user_id: 'bob', online: true }] };
  const state = fold([{ type: 'chats', chats: [chat(), about] }, there, { type: 'blocked', user_id: 'bob', blocked: true }]);
  assert.deepEqual(Object.values(state.chats).map(({ blocked }) => blocked), [true, true]);
  assert.deepEqual(state.presence, {});
  assert.equal(fold([{ type: 'chat', chat: chat() }], state).chats[CHAT].blocked, false);
});

test('a page around a message: what is beyond is not shown until the pages between have come, in both directions', () => {
  const page = (from, to, more) =>
    ({ type: 'history', chat_id: CHAT, messages: Array.from({ length: to - from + 1 }, (_, i) => message(from + i)), ...more });
  const newest = fold([page(91, 100, { has_more: true })]);
  const around = fold([page(41, 60, { around: id(50), has_more: true, has_newer: true }), news(101)], newest);
  const shown = (state) => [heldMessages(state, CHAT)[0].message_id, heldMessages(state, CHAT).at(-1).message_id];
  assert.deepEqual(shown(around), [id(41), id(60)]);
  assert.deepEqual(around.history[CHAT], { hasMore: true, until: id(60) });
  const nearly = fold([page(61, 90, { after: id(60), has_more: true })], around);
  assert.deepEqual(shown(nearly), [id(41), id(90)]);
  assert.equal(fold([page(61, 90, { after: id(60), has_more: true })], nearly), nearly, 'a page that comes twice');
  assert.deepEqual(shown(fold([page(91, 101, { after: id(90) })], nearly)), [id(41), id(101)]);
  assert.deepEqual(shown(fold([page(92, 101, { has_more: true })], around)), [id(92), id(101)], 'the newest page does not join');
});

test('unread is exact while what is read is far from the newest', () => {
  const messages = Array.from({ length: 20 }, (_, i) => message(i + 1));
  const state = fold([
    { type: 'chat', chat: chat({ seq: 300, unread: 300, last_message: message(300) }) },
    { type: 'history', chat_id: CHAT, around: id(1), messages, has_newer: true },
    { type: 'receipt.read', chat_id: CHAT, user_id: 'alice', up_to: id(12) },
  ]);
  assert.equal(unread(state, CHAT), 288);
  assert.equal(unread(fold([news(301)], state), CHAT), 289);
});

test('only the wanted part of a long conversation becomes rows; what is pending stands at its very end', () => {
  const messages = Array.from({ length: 20 }, (_, i) => message(i + 1));
  const queued = { type: 'queued', message: { chat_id: CHAT, text: 'hi', client_msg_id: 'k', created_at: at(59) } };
  const state = fold([{ type: 'history', chat_id: CHAT, messages }, queued]);
  const texts = (more) => conversation(state, CHAT, more).filter(({ kind }) => kind === 'message').map((row) => row.message.text);
  assert.deepEqual(texts({ from: 5, to: 8 }), ['text 6', 'text 7', 'text 8']);
  assert.deepEqual(texts({ from: 18, to: 20 }), ['text 19', 'text 20', 'hi']);
});

test('the message that can be edited with the keyboard is the last own one that is there', () => {
  const state = fold([news(1, 'alice'), news(2, 'alice'), deleted(2), news(3)]);
  assert.equal(lastOwn(state, CHAT).message_id, id(1));
});

test('whether a chat is blocked, the later version says: an event that was overtaken changes nothing', () => {
  const at = (version, blocked) => ({ type: 'chat', chat: chat({ version, ...(blocked && { blocked }) }) });
  const state = fold([at(3), at(5, true), at(4)]);
  assert.equal(state.chats[CHAT].blocked, true);
  assert.equal(fold([at(6), at(5, true)], state).chats[CHAT].blocked, false);
});
