// What format.js and model-free helpers promise.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { dayName, highlighted, hue, initials, lengthOf, linked, presenceText } from '../../edge/web/format.js';

test('initials are of the first and last word, in any script', () => {
  assert.deepEqual(['alice', 'Alice B. Archer', 'bob-smith', 'дмитрий орлов', '🙂', '...'].map(initials), ['A', 'AA', 'BS', 'ДО', '🙂', '?']);
});

test('a hue stays with the user and is in degrees', () => {
  assert.equal(hue('alice'), hue('alice'));
  for (const user of ['alice', 'bob', 'a'.repeat(64)]) assert.ok(hue(user) >= 0 && hue(user) < 360);
});

test('only http and https become links, and punctuation after them stays text', () => {
  assert.deepEqual(linked('see https://a.example/x?y=1, ok'), [
    { text: 'see ' },
    { text: 'https://a.example/x?y=1', href: 'https://a.example/x?y=1' },
    { text: ', ok' },
  ]);
  for (const text of ['javascript:alert(1)', 'data:text/html,x', '<script>']) assert.deepEqual(linked(text), [{ text }]);
});

test('length is in characters, as the server counts', () => {
  assert.deepEqual([lengthOf('ab'), lengthOf('🙂🙂')], [2, 2]);
});

test('days are named by distance across midnight, not by hours', () => {
  const now = new Date(2026, 10, 23, 0, 5);
  const names = [[2026, 10, 23, 0, 1], [2026, 10, 22, 23, 59], [2026, 10, 20], [2026, 0, 2], [2025, 0, 2]].map((d) => dayName(new Date(...d), now));
  assert.deepEqual(names, ['Today', 'Yesterday', 'Friday', 'January 2', 'January 2, 2025']);
});

test('presence is said as a person would', () => {
  const now = new Date(2026, 10, 23, 12, 0);
  const said = (...date) => presenceText({ last_seen: new Date(...date).toISOString() }, now);
  assert.equal(presenceText({ online: true }, now), 'online');
  assert.equal(presenceText({ online: false }, now), '');
  assert.equal(said(2026, 10, 23, 11, 59, 50), 'last seen just now');
  assert.equal(said(2026, 10, 23, 11, 55), 'last seen 5 minutes ago');
  assert.match(said(2026, 10, 23, 9, 41), /^last seen today at 9:41/);
  assert.match(said(2026, 10, 22, 23, 5), /^last seen yesterday at 11:05/);
  assert.equal(said(2026, 10, 2), 'last seen on November 2');
});

test('a hit is marked whatever its case, with a little of what stands before it', () => {
  assert.deepEqual(highlighted('Hello World', 'world'), [{ text: 'Hello ', hit: false }, { text: 'World', hit: true }]);
  assert.deepEqual(highlighted('Hello', 'x'), [{ text: 'Hello', hit: false }]);
  const long = highlighted(`${'word '.repeat(40)}needle and more`, 'needle');
  assert.deepEqual(long.map(({ hit }) => hit), [false, true, false]);
  assert.ok(long[0].text.startsWith('…') && long[0].text.length < 30);
});
