// What format.js and model-free helpers promise.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { dayName, hue, initials, lengthOf, linked } from '../../edge/web/format.js';

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
