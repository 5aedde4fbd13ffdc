// What place.js promises of the stretch that is drawn.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { stretch } from '../../edge/web/place.js';

test('a short conversation is drawn whole', () => {
  assert.deepEqual(stretch(0, -1), [0, 0]);
  assert.deepEqual(stretch(30, 29), [0, 30]);
});

test('of a long one a stretch around the reader, and never much more', () => {
  assert.deepEqual(stretch(5_000, 4_999), [4_840, 5_000]);
  assert.deepEqual(stretch(5_000, 0), [0, 160]);
  assert.deepEqual(stretch(5_000, 2_500), [2_420, 2_580]);
});

test('it moves only when the reader comes near an edge beyond which there is more', () => {
  const drawn = [2_420, 2_580];
  for (const index of [2_460, 2_500, 2_540]) assert.deepEqual(stretch(5_000, index, drawn), drawn);
  assert.deepEqual(stretch(5_000, 2_459, drawn), [2_379, 2_539]);
  assert.deepEqual(stretch(5_000, 2_541, drawn), [2_461, 2_621]);
  assert.deepEqual(stretch(5_000, 3, [0, 160]), [0, 160], 'there is no more above');
});

test('what was drawn is not kept where the conversation has become shorter', () => {
  assert.deepEqual(stretch(100, 99, [2_420, 2_580]), [0, 100]);
});
