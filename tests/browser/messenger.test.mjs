// What messenger.js promises, against a server of the contract in memory whose network the test pulls.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Gaps, RecentSet } from '../../edge/web/gaps.js';
import { Messenger, RpcError, subject } from '../../edge/web/messenger.js';
import { backoff, comesBack } from '../../edge/web/rpc.js';

const token = (sub) => `h.${btoa(JSON.stringify({ sub }))}.s`;
const soon = (ms = 0) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Waits for a condition, not for a time. */
async function until(condition, what) {
  for (let i = 0; i < 400; i += 1) {
    if (condition()) return;
    await soon(5);
  }
  assert.fail(`never came true: ${what ?? condition}`);
}

/** The other end: `on[method](params, socket)` gives the result; throws an error object; returns undefined to stay silent. */
class Server {
  sockets = [];
  calls = [];
  reachable = true;
  on = { 'session.connect': () => ({ user_id: 'alice', last_event_id: 'e0', recovered: true }) };

  constructor() {
    const server = this;
    this.WebSocket = class {
      readyState = 0;

      constructor(url) {
        this.url = url;
        setTimeout(() => {
          if (!server.reachable) return this.drop(1006);
          server.sockets.push(this);
          this.readyState = 1;
          this.onopen();
        });
      }

      send(text) {
        const { id, method, params } = JSON.parse(text);
        server.calls.push({ method, params });
        setTimeout(() => {
          let answer;
          try {
            const result = server.on[method](params, this);
            if (result === undefined) return;
            answer = { result };
          } catch (error) {
            answer = { error };
          }
          this.push({ jsonrpc: '2.0', id, ...answer });
        });
      }

      push(frame) {
        if (this.readyState === 1) this.onmessage({ data: JSON.stringify(frame) });
      }

      drop(code, reason = '') {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.onclose({ code, reason });
      }

      close() {
        setTimeout(() => this.drop(1000));
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  paramsOf(method) {
    return this.calls.filter((call) => call.method === method).map((call) => call.params);
  }

  notify(method, params) {
    this.socket.push({ jsonrpc: '2.0', method, params });
  }
}

/** A connected messenger; closed when the test ends. */
async function connected(t, server, more = {}) {
  const fast = { backoffMs: 2, gapGraceMs: 5, openTimeoutMs: 5_000, stableMs: 0 };
  const noHttp = async () => { throw new TypeError('no network'); };
  const options = { url: 'http://messenger.test', token: token('alice'), WebSocket: server.WebSocket, fetch: noHttp, ...fast, ...more };
  const messenger = new Messenger(options);
  t.after(() => messenger.close());
  await messenger.connect();
  return messenger;
}

const collect = (messenger, name) => {
  const seen = [];
  messenger.on(name, (params) => seen.push(params));
  return seen;
};

const error = (code, data = {}) => ({ code, message: 'no', data: { reason: 'R', retryable: false, trace_id: 't', ...data } });

test('close codes 4500 to 4999 do not come back, all others do', () => {
  assert.deepEqual([1000, 1006, 1009, 4000, 4499, 4500, 4501, 4999].map(comesBack), [true, true, true, true, true, false, false, false]);
});

test('backoff grows, is jittered over its whole range, and is bounded', () => {
  const options = (random) => ({ backoffMs: 100, backoffMaxMs: 1_000, random: () => random });
  assert.deepEqual([0, 1, 2, 3, 4, 50].map((n) => backoff(n, options(1))), [100, 200, 400, 800, 1_000, 1_000]);
  assert.equal(backoff(3, options(0)), 0);
});

test('a RecentSet knows its members once and forgets the oldest', () => {
  const set = new RecentSet(2);
  assert.deepEqual(['a', 'a', 'b', 'c', 'a'].map((x) => set.add(x)), [true, false, true, true, true]);
});

test('Gaps names exactly what exists and is not held', () => {
  const gaps = new Gaps();
  gaps.expect('c', 6); // the first that is heard of a chat is no gap
  assert.deepEqual(gaps.missing('c'), []);
  gaps.see('c', 8);
  assert.deepEqual(gaps.missing('c'), [7]);
  gaps.expect('c', 10);
  assert.deepEqual(gaps.missing('c'), [7, 9, 10]);
  for (const seq of [9, 7, 3, 10]) gaps.see('c', seq);
  assert.deepEqual(gaps.missing('c'), []);
});

test('the subject of a token is read, of anything else there is none', () => {
  assert.equal(subject(token('alice')), 'alice');
  assert.deepEqual(['', 'a.b.c', 'x'].map(subject), ['', '', '']);
});

test('session.connect carries the token; calls are answered by id; errors are typed', async (t) => {
  const server = new Server();
  server.on['chats.get'] = ({ chat_id: id }) => ({ chat: { chat_id: id } });
  server.on['chats.open'] = () => { throw error(-32007, { reason: 'SELF' }); };
  const messenger = await connected(t, server);
  assert.equal(server.socket.url, 'ws://messenger.test/ws');
  assert.deepEqual(server.paramsOf('session.connect'), [{ token: token('alice') }]);
  assert.deepEqual([messenger.userId, messenger.state], ['alice', { name: 'online', transport: 'websocket' }]);
  const [a, b] = await Promise.all(['1', '2'].map((id) => messenger.call('chats.get', { chat_id: id })));
  assert.deepEqual([a.chat.chat_id, b.chat.chat_id], ['1', '2']);
  const refused = await messenger.call('chats.open', {}).catch((e) => e);
  assert.ok(refused instanceof RpcError);
  assert.deepEqual([refused.code, refused.reason, refused.retryable, refused.traceId], [-32007, 'SELF', false, 't']);
  assert.equal(server.paramsOf('chats.open').length, 1, 'what the server refused is not asked again');
});

test('a call that comes before the session has begun waits for it', async (t) => {
  const server = new Server();
  server.on['chats.list'] = () => ({});
  server.on['session.connect'] = (_, socket) => {
    const result = { user_id: 'alice', last_event_id: 'e0', recovered: true };
    setTimeout(() => socket.push({ jsonrpc: '2.0', id: 'connect', result }), 30);
  };
  const url = 'http://messenger.test';
  const messenger = new Messenger({ url, token: token('alice'), WebSocket: server.WebSocket });
  t.after(() => messenger.close());
  let begun = false;
  const session = messenger.connect().then(() => (begun = true));
  await until(() => server.calls.length === 1);
  const listed = messenger.call('chats.list').then(() => assert.ok(begun));
  await soon(10);
  assert.deepEqual(server.paramsOf('chats.list'), []);
  await Promise.all([session, listed]);
});

test('a call without an answer ends with its time', async (t) => {
  const server = new Server();
  server.on['chats.get'] = () => undefined;
  const messenger = await connected(t, server);
  const late = await messenger.call('chats.get', {}, { timeoutMs: 20 }).catch((e) => e);
  assert.deepEqual([late.code, late.reason], [-32004, 'CLIENT_TIMEOUT']);
});

test('a throttled send waits as long as it is told and goes again under its key, and the next does not overtake it', async (t) => {
  const server = new Server();
  const times = [];
  server.on['messages.send'] = (params) => {
    times.push(Date.now());
    if (times.length === 1) throw error(-32008, { retry_after_ms: 60 });
    return { message: { ...params, message_id: params.text, seq: times.length } };
  };
  const messenger = await connected(t, server);
  await Promise.all(['a', 'b'].map((text) => messenger.send({ chat_id: 'c', text, client_msg_id: `k${text}` })));
  assert.deepEqual(server.paramsOf('messages.send').map((p) => p.client_msg_id), ['ka', 'ka', 'kb']);
  assert.ok(times[1] - times[0] >= 59, `waited ${times[1] - times[0]} ms`);
});

test('a send that is refused for good fails, and the next one goes', async (t) => {
  const server = new Server();
  server.on['messages.send'] = (params) => {
    if (params.text === 'bad') throw error(-32010);
    return { message: { ...params, message_id: 'm', seq: 1 } };
  };
  const messenger = await connected(t, server);
  const bad = messenger.send({ chat_id: 'c', text: 'bad', client_msg_id: '1' });
  const good = messenger.send({ chat_id: 'c', text: 'good', client_msg_id: '2' });
  assert.equal((await bad.catch((e) => e)).code, -32010);
  assert.equal((await good).message.text, 'good');
});

test('after a lost connection it comes back behind its last event, and asks again what was not answered', async (t) => {
  const server = new Server();
  server.on['messages.send'] = (params) => (server.sockets.length > 1 ? { message: { ...params, message_id: 'm', seq: 1 } } : undefined);
  const messenger = await connected(t, server);
  server.notify('chat.updated', { event_id: 'e7', chat: { chat_id: 'c' } });
  const sent = messenger.send({ chat_id: 'c', text: 'hi', client_msg_id: 'k' });
  await until(() => server.paramsOf('messages.send').length === 1);
  server.socket.drop(1006);
  await sent;
  assert.deepEqual(server.paramsOf('messages.send').map((p) => p.client_msg_id), ['k', 'k']);
  assert.deepEqual(server.paramsOf('session.connect').map((p) => p.last_event_id), [undefined, 'e7']);
});

test('an event is handed on once, and without a word from it the cursor is where the session began', async (t) => {
  const server = new Server();
  const messenger = await connected(t, server);
  const seen = collect(messenger, 'receipt.read');
  server.socket.drop(4000);
  await until(() => server.sockets.length === 2 && messenger.state.name === 'online');
  assert.equal(server.paramsOf('session.connect')[1].last_event_id, 'e0');
  for (const id of ['e1', 'e2', 'e1', 'e2']) server.notify('receipt.read', { event_id: id });
  assert.deepEqual(seen.map((p) => p.event_id), ['e1', 'e2']);
});

test('what may have been lost for good is said: resync, and the cursor is the new one', async (t) => {
  const server = new Server();
  const messenger = await connected(t, server);
  const resyncs = collect(messenger, 'resync');
  assert.deepEqual(resyncs, [], 'a first session has lost nothing');
  server.on['session.connect'] = () => ({ user_id: 'alice', last_event_id: 'f0' });
  server.socket.drop(4001);
  await until(() => resyncs.length);
  server.socket.drop(4001);
  await until(() => server.sockets.length === 3);
  await until(() => server.paramsOf('session.connect').length === 3);
  assert.equal(server.paramsOf('session.connect')[2].last_event_id, 'f0');
});

test('a close of 4500 and above ends it, and calls that wait fail', async (t) => {
  const server = new Server();
  server.on['chats.list'] = () => undefined;
  const messenger = await connected(t, server);
  const waiting = messenger.call('chats.list').catch((e) => e);
  server.socket.drop(4503, 'too many');
  assert.equal((await waiting).reason, 'CLIENT_CLOSED');
  assert.deepEqual(messenger.state, { name: 'closed', code: 4503, reason: 'too many' });
});

test('a token that is not accepted fails connect, and is not tried again', async (t) => {
  const server = new Server();
  server.on['session.connect'] = () => { throw error(-32016); };
  const refused = await connected(t, server).catch((e) => e);
  assert.equal(refused.reason, 'CLIENT_CLOSED_4501');
  assert.equal(server.sockets.length, 1);
});

test('an expiring session is refreshed, and an expired token replaced, where there is a younger one', async (t) => {
  const server = new Server();
  server.on['session.refresh'] = () => ({ expires_at: '2026-11-23T10:00:00Z' });
  let n = 0;
  const messenger = await connected(t, server, { refresh: async () => token(`alice${(n += 1)}`) });
  server.notify('session.expiring', { expires_at: '2026-11-23T09:00:00Z' });
  await until(() => server.paramsOf('session.refresh').length);
  assert.deepEqual(server.paramsOf('session.refresh'), [{ token: token('alice1') }]);
  server.socket.drop(4502);
  await until(() => server.sockets.length === 2 && messenger.state.name === 'online');
  assert.equal(server.paramsOf('session.connect')[1].token, token('alice2'));
});

test('an edge that goes away is left after the time that it names', async (t) => {
  const server = new Server();
  const messenger = await connected(t, server);
  const startedAt = Date.now();
  server.notify('session.reconnect', { after_ms: 40, reason: 'draining' });
  await until(() => server.sockets.length === 2 && messenger.state.name === 'online');
  assert.ok(Date.now() - startedAt >= 38);
});

test('a hole in seq is filled from the history, newest page first, and each message of it comes once', async (t) => {
  const server = new Server();
  const message = (seq) => ({ message_id: `m${seq}`, chat_id: 'c', seq });
  server.on['chats.list'] = () => ({ chats: [{ chat_id: 'c', seq: 6 }] });
  server.on['messages.history'] = ({ before }) =>
    (before ? { messages: [message(5), message(6), message(7)] } : { messages: [message(8)], has_more: true });
  const messenger = await connected(t, server);
  const seen = collect(messenger, 'message.new');
  await messenger.call('chats.list');
  server.notify('message.new', { event_id: 'e1', message: message(8) });
  await until(() => seen.length === 2);
  assert.deepEqual(seen.map((p) => p.message.seq), [8, 7]);
  assert.deepEqual(server.paramsOf('messages.history').map((p) => p.before), [undefined, 'm8']);
  server.notify('message.new', { event_id: 'e2', message: message(9) });
  await soon(20);
  assert.deepEqual([seen.length, server.paramsOf('messages.history').length], [3, 2]);
});

test('a hole that closes by itself is not asked for', async (t) => {
  const server = new Server();
  server.on['chats.list'] = () => ({ chats: [{ chat_id: 'c', seq: 6 }] });
  const messenger = await connected(t, server, { gapGraceMs: 60 });
  await messenger.call('chats.list');
  const push = (seq) => server.notify('message.new', { event_id: `e${seq}`, message: { chat_id: 'c', seq } });
  push(8);
  await soon(10);
  push(7);
  await soon(80);
  assert.deepEqual(server.paramsOf('messages.history'), []);
});

test('a hole that the history cannot fill is said, once', async (t) => {
  const server = new Server();
  server.on['chats.get'] = () => ({ chat: { chat_id: 'c', seq: 1 } });
  server.on['messages.history'] = () => ({ messages: [{ message_id: 'm9', chat_id: 'c', seq: 9 }] });
  const messenger = await connected(t, server);
  const resyncs = collect(messenger, 'resync');
  await messenger.call('chats.get', {});
  server.notify('message.new', { event_id: 'e1', message: { message_id: 'm9', chat_id: 'c', seq: 9 } });
  await until(() => resyncs.length);
  server.notify('message.new', { event_id: 'e2', message: { message_id: 'm10', chat_id: 'c', seq: 10 } });
  await soon(20);
  assert.deepEqual([resyncs, server.paramsOf('messages.history').length], [[{ chat_id: 'c' }], 1]);
});

test('what is pushed while a hole is being filled is handed on once', async (t) => {
  const server = new Server();
  const message = (seq) => ({ message_id: `m${seq}`, chat_id: 'c', seq });
  server.on['chats.list'] = () => ({ chats: [{ chat_id: 'c', seq: 6 }] });
  server.on['messages.history'] = () => {
    server.notify('message.new', { event_id: 'e7', message: message(7) });
    return { messages: [message(6), message(7), message(8)] };
  };
  const messenger = await connected(t, server);
  const seen = collect(messenger, 'message.new');
  await messenger.call('chats.list');
  server.notify('message.new', { event_id: 'e8', message: message(8) });
  await until(() => server.paramsOf('messages.history').length === 1);
  await soon(20);
  assert.deepEqual(seen.map((p) => p.message.seq), [8, 7]);
});

test('a hole that could not be read is looked at again in the next session', async (t) => {
  const server = new Server();
  const message = (seq) => ({ message_id: `m${seq}`, chat_id: 'c', seq });
  server.on['chats.list'] = () => ({ chats: [{ chat_id: 'c', seq: 6 }] });
  server.on['messages.history'] = () => {
    if (server.sockets.length === 1) throw error(-32014);
    return { messages: [message(7), message(8)] };
  };
  const messenger = await connected(t, server);
  const seen = collect(messenger, 'message.new');
  await messenger.call('chats.list');
  server.notify('message.new', { event_id: 'e8', message: message(8) });
  await until(() => server.paramsOf('messages.history').length === 1);
  await soon(20);
  server.socket.drop(1006);
  await until(() => seen.length === 2, 'filled after the reconnect');
  assert.deepEqual(seen.map((p) => p.message.seq), [8, 7]);
});

test('a server that falls silent is asked, and left when it does not answer', async (t) => {
  const server = new Server();
  server.on['session.ping'] = () => undefined;
  await connected(t, server, { silenceMs: 10, openTimeoutMs: 10 });
  await until(() => server.paramsOf('session.ping').length);
  const before = server.sockets.length;
  await until(() => server.sockets.length > before, 'left for another connection');
});

test('wake cuts the wait before the next attempt short', async (t) => {
  const server = new Server();
  const messenger = await connected(t, server, { backoffMs: 60_000, random: () => 1 });
  server.socket.drop(1006);
  await until(() => messenger.state.name === 'waiting');
  messenger.wake();
  await until(() => messenger.state.name === 'online');
});

test('where WebSocket does not get through, calls go to /rpc and events come from /events', async (t) => {
  const server = new Server();
  server.reachable = false;
  const pages = [
    { events: [], last_event_id: 'e0', recovered: true },
    { events: [{ jsonrpc: '2.0', method: 'receipt.read', params: { event_id: 'e1' } }], last_event_id: 'e1', recovered: true },
  ];
  const asked = [];
  let throttled = true;
  const reply = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });
  const fetch = async (url, { headers, body, signal }) => {
    asked.push(url.replace('http://messenger.test', ''));
    assert.equal(headers.Authorization, `Bearer ${token('alice')}`);
    if (body) {
      const { id, params } = JSON.parse(body);
      if (throttled) return (throttled = false), reply(429, {}, { 'Retry-After': '0' });
      return reply(200, { jsonrpc: '2.0', id, result: { message: { ...params, message_id: 'm', seq: 1 } } });
    }
    if (pages.length) return reply(200, pages.shift());
    return new Promise((_, reject) => { signal.onabort = () => reject(signal.reason); });
  };
  const messenger = await connected(t, server, { fetch });
  const seen = collect(messenger, 'receipt.read');
  assert.deepEqual([messenger.userId, messenger.state.transport], ['alice', 'http']);
  const { message } = await messenger.send({ chat_id: 'c', text: 'hi', client_msg_id: 'k' });
  assert.equal(message.client_msg_id, 'k');
  await until(() => seen.length === 1 && asked.length === 5);
  assert.deepEqual(asked.filter((url) => url.startsWith('/events')), ['/events?wait=0', '/events?wait=25&after=e0', '/events?wait=25&after=e1']);
});

test('on HTTP, WebSocket is tried again after a while, and events go on behind the cursor', async (t) => {
  const server = new Server();
  server.reachable = false;
  const fetch = async () => (await soon(5), new Response(JSON.stringify({ events: [], last_event_id: 'e5', recovered: true })));
  const messenger = await connected(t, server, { fetch, pollMs: 20 });
  server.reachable = true;
  await until(() => messenger.state.transport === 'websocket');
  assert.equal(server.paramsOf('session.connect')[0].last_event_id, 'e5');
});
