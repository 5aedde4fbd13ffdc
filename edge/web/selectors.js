/** What the views ask of the store's state: lists, counts, and a conversation as rows. Pure. */

const GROUP_MS = 5 * 60_000;

/** The chats, the one with the newest activity first, as the server lists them. */
export function chatList(state) {
  const activity = ({ last_message: last, updated_at: updated }) => Date.parse(last?.created_at ?? updated) || 0;
  return Object.values(state.chats).sort((a, b) => activity(b) - activity(a) || (a.chat_id < b.chat_id ? 1 : -1));
}

/**
 * How many incoming messages the user has not read: the last snapshot's number and what came after it; after a read
 * that no snapshot has confirmed yet, what is held beyond the read pointer, or where not all of that is held, the
 * snapshot's number less what has been read of it since.
 */
export function unread(state, chatId) {
  const { counted, read_up_to: readUpTo = '' } = state.chats[chatId];
  const incoming = (state.messages[chatId] ?? []).filter((m) => m.sender_id !== state.me && !m.deleted);
  const beyond = incoming.filter((m) => m.message_id > readUpTo);
  const arrived = beyond.filter(({ seq }) => seq > counted.seq).length;
  if (readUpTo <= counted.read_up_to) return counted.unread + arrived;
  if (!state.history[chatId]?.until) return beyond.length;
  const read = incoming.filter((m) => m.message_id > counted.read_up_to && m.message_id <= readUpTo && m.seq <= counted.seq);
  return Math.max(0, counted.unread - read.length) + arrived;
}

export const totalUnread = (state) => Object.keys(state.chats).reduce((sum, id) => sum + unread(state, id), 0);

/** The messages that are held without a hole, oldest first. */
export function heldMessages(state, chatId) {
  const messages = state.messages[chatId] ?? [];
  const until = state.history[chatId]?.until;
  return until ? messages.slice(0, indexAfter(messages, until)) : messages;
}

/** Sends that wait for their answer or have failed, oldest first; they stand at the end of the newest messages. */
export function pendingOf(state, chatId) {
  if (state.history[chatId]?.until) return [];
  return Object.values(state.pending).filter((message) => message.chat_id === chatId);
}

/** How many of the messages, ascending, have an id up to this one. */
export function indexAfter(messages, id) {
  let [low, high] = [0, messages.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (messages[middle].message_id <= id) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** `sending`, `failed`, `sent` (the server has it), `delivered` or `read` (by the peer) for an own message; '' for the peer's. */
export function statusOf(state, message) {
  if (message.sender_id !== state.me) return '';
  if (!message.message_id) return message.error ? 'failed' : 'sending';
  if (state.changing[message.message_id]) return 'sending';
  const { peer_read_up_to: read = '', peer_delivered_up_to: delivered = '' } = state.chats[message.chat_id] ?? {};
  if (message.message_id <= read) return 'read';
  return message.message_id <= delivered ? 'delivered' : 'sent';
}

/** The user's newest message in a chat that can still be edited, or null. */
export const lastOwn = (state, chatId) =>
  heldMessages(state, chatId).findLast((message) => message.sender_id === state.me && !message.deleted) ?? null;

/**
 * A conversation as rows, oldest first: `{kind: 'day'|'new'|'message', key, ...}`. A message row has `message`, `status`,
 * and `first`/`last` of a group (same sender, minutes apart). The key of an own message is the same before and after it
 * was accepted. `newAfter`: the line "new messages" stands before the first incoming message beyond this id, once
 * the messages are loaded back to there. `from`, `to`: only these of the held messages, to the end with those that are pending.
 */
export function conversation(state, chatId, { newAfter = null, from = 0, to = Infinity } = {}) {
  const held = heldMessages(state, chatId);
  const pending = to < held.length ? [] : pendingOf(state, chatId).map((message) => ({ ...message, sender_id: state.me }));
  const firstNew = firstUnread(state, chatId, held, newAfter);
  const rows = [];
  let previous = null;
  for (const message of [...held.slice(from, to), ...pending]) {
    const at = new Date(message.created_at);
    const day = dayOf(at);
    const newDay = !previous || day !== previous.day;
    if (newDay) rows.push({ kind: 'day', key: `day ${day}`, date: at });
    if (message === firstNew) rows.push({ kind: 'new', key: 'new' });
    const first = newDay || message === firstNew || previous.message.sender_id !== message.sender_id || at - previous.at > GROUP_MS;
    if (previous) previous.row.last = first;
    const shown = { ...message, ...state.changing[message.message_id] };
    const row = { kind: 'message', key: keyOf(message), message: shown, status: statusOf(state, message), first, last: true };
    rows.push(row);
    previous = { message, at, day, row };
  }
  return rows;
}

function firstUnread(state, chatId, held, newAfter) {
  const reached = newAfter !== null && (!state.history[chatId]?.hasMore || held[0]?.message_id <= newAfter);
  if (!reached) return null;
  return held.slice(indexAfter(held, newAfter)).find((message) => message.sender_id !== state.me) ?? null;
}

const keyOf = (message) => (message.client_msg_id ? `own ${message.client_msg_id}` : message.message_id);
const dayOf = (date) => `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
