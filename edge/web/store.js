/**
 * What one user knows of chats and messages: a state, and `reduce`, which folds results and notifications into it.
 * Pure: no DOM, no clock, no connection. Everything may arrive twice, late or out of order; the state comes out the same.
 *
 *     state = reduce(state, { type: 'message.new', message })
 *
 * | type                        | with                                  | from
 * | chats                       | chats, next_cursor, degraded          | chats.list
 * | chat                        | chat, degraded?                       | chats.open, .get, .mark_read, chat.updated
 * | history                     | chat_id, before?, messages, has_more  | messages.history
 * | message.new                 | message                               | the notification, messages.send
 * | receipt.read                | chat_id, user_id, up_to               | the notification, or before chats.mark_read is answered
 * | queued, failed, dropped     | message / client_msg_id, error        | sending
 * | draft                       | chat_id, text                         | typing
 * | resync                      | chat_id?                              | the connection: histories may have holes
 */

export const initialState = (me) => ({
  me,
  chats: {}, // chat_id -> chat, and `counted`: the snapshot {read_up_to, seq, unread} from which `unread` is counted on
  messages: {}, // chat_id -> messages by message_id, ascending
  history: {}, // chat_id -> {hasMore}: `messages` has everything from its first one on
  pending: {}, // client_msg_id -> {chat_id, text, client_msg_id, created_at, error}: not accepted yet
  drafts: {}, // chat_id -> text
  nextCursor: null, // of the chat list: null before the first page, '' at the end
  degraded: [],
});

export function reduce(state, action) {
  return reducers[action.type](state, action);
}

const reducers = {
  chats: (state, { chats = [], next_cursor: nextCursor = '', degraded = [] }) =>
    ({ ...chats.reduce(withChat, state), nextCursor, degraded }),

  chat: (state, { chat, degraded }) => ({ ...withChat(state, chat), degraded: degraded ?? state.degraded }),

  history: (state, { chat_id: chatId, before, messages = [], has_more: hasMore = false }) => {
    const held = state.messages[chatId] ?? [];
    if (before && before !== held[0]?.message_id) return state; // asked before a resync
    const known = state.history[chatId];
    const connected = before || known || !hasMore;
    const kept = connected ? held : held.filter(({ message_id: id }) => id > messages[0].message_id);
    return {
      ...withMessages({ ...state, messages: { ...state.messages, [chatId]: kept } }, chatId, messages),
      history: { ...state.history, [chatId]: { hasMore: hasMore && Boolean(before || !known || known.hasMore) } },
    };
  },

  'message.new': (state, { message }) => {
    const next = withMessages(state, message.chat_id, [message]);
    const chat = state.chats[message.chat_id];
    if (!chat) return next;
    return { ...next, chats: { ...next.chats, [chat.chat_id]: { ...chat, last_message: newer(chat.last_message, message) } } };
  },

  'receipt.read': (state, { chat_id: chatId, user_id: userId, up_to: upTo }) => {
    const chat = state.chats[chatId];
    if (!chat) return state;
    const pointer = userId === state.me ? 'read_up_to' : 'peer_read_up_to';
    return { ...state, chats: { ...state.chats, [chatId]: { ...chat, [pointer]: later(chat[pointer], upTo) } } };
  },

  queued: (state, { message }) => ({ ...state, pending: { ...state.pending, [message.client_msg_id]: { ...message, error: null } } }),

  failed: (state, { client_msg_id: id, error }) =>
    (state.pending[id] ? { ...state, pending: { ...state.pending, [id]: { ...state.pending[id], error } } } : state),

  dropped: (state, { client_msg_id: id }) => ({ ...state, pending: without(state.pending, id) }),

  draft: (state, { chat_id: chatId, text }) =>
    ({ ...state, drafts: text ? { ...state.drafts, [chatId]: text } : without(state.drafts, chatId) }),

  resync: (state, { chat_id: chatId }) => ({ ...state, history: chatId ? without(state.history, chatId) : {} }),
};

// --- what the views ask ----------------------------------------------------------------------------------------------

/** The chats, the one with the newest activity first, as the server lists them. */
export function chatList(state) {
  const activity = ({ last_message: last, updated_at: updated }) => Date.parse(last?.created_at ?? updated) || 0;
  return Object.values(state.chats).sort((a, b) => activity(b) - activity(a) || (a.chat_id < b.chat_id ? 1 : -1));
}

/**
 * How many incoming messages the user has not read: the last snapshot's number and what came after it; after a read
 * that no snapshot has confirmed yet, what is held beyond the read pointer.
 */
export function unread(state, chatId) {
  const { counted, read_up_to: readUpTo = '' } = state.chats[chatId];
  const beyond = (state.messages[chatId] ?? []).filter((m) => m.sender_id !== state.me && m.message_id > readUpTo);
  if (readUpTo > counted.read_up_to) return beyond.length;
  return counted.unread + beyond.filter(({ seq }) => seq > counted.seq).length;
}

export const totalUnread = (state) => Object.keys(state.chats).reduce((sum, id) => sum + unread(state, id), 0);

/** Sends that wait for their answer or have failed, oldest first. */
export function pendingOf(state, chatId) {
  return Object.values(state.pending).filter((message) => message.chat_id === chatId);
}

/** `sending`, `failed`, `sent` (the server has it) or `read` (by the peer) for an own message; '' for the peer's. */
export function statusOf(state, message) {
  if (message.sender_id !== state.me) return '';
  if (!message.message_id) return message.error ? 'failed' : 'sending';
  return message.message_id <= (state.chats[message.chat_id]?.peer_read_up_to ?? '') ? 'read' : 'sent';
}

const GROUP_MS = 5 * 60_000;

/**
 * A conversation as rows, oldest first: `{kind: 'day'|'new'|'message', key, ...}`. A message row has `message`, `status`,
 * and `first`/`last` of a group (same sender, minutes apart). The key of an own message is the same before and after it
 * was accepted. `newAfter`: the line "new messages" stands before the first incoming message beyond this id, once
 * the messages are loaded back to there.
 */
export function conversation(state, chatId, { newAfter = null } = {}) {
  const pending = pendingOf(state, chatId).map((message) => ({ ...message, sender_id: state.me }));
  const messages = [...(state.messages[chatId] ?? []), ...pending];
  const reached = newAfter !== null && (!state.history[chatId]?.hasMore || messages[0]?.message_id <= newAfter);
  const firstNew = reached ? messages.find((m) => m.sender_id !== state.me && m.message_id > newAfter) : null;
  const rows = [];
  let previous = null;
  for (const message of messages) {
    const at = new Date(message.created_at);
    const day = dayOf(at);
    const newDay = !previous || day !== previous.day;
    if (newDay) rows.push({ kind: 'day', key: `day ${day}`, date: at });
    if (message === firstNew) rows.push({ kind: 'new', key: 'new' });
    const first = newDay || message === firstNew || previous.message.sender_id !== message.sender_id || at - previous.at > GROUP_MS;
    if (previous) previous.row.last = first;
    const row = { kind: 'message', key: keyOf(message), message, status: statusOf(state, message), first, last: true };
    rows.push(row);
    previous = { message, at, day, row };
  }
  return rows;
}

const keyOf = (message) => (message.client_msg_id ? `own ${message.client_msg_id}` : message.message_id);
const dayOf = (date) => `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;

// --- folding ---------------------------------------------------------------------------------------------------------

const later = (a = '', b = '') => (a > b ? a : b);
const without = (object, key) => Object.fromEntries(Object.entries(object).filter(([k]) => k !== key));

/** The later of two messages; of two copies of one, the second. */
const newer = (a, b) => ((a?.message_id ?? '') > (b?.message_id ?? '') ? a : b ?? a);

/** Pointers only move forward; names that a degraded answer leaves out stay. */
function withChat(state, chat) {
  const old = state.chats[chat.chat_id] ?? {};
  const merged = {
    ...old,
    ...chat,
    peer: { ...old.peer, ...chat.peer },
    item: chat.item || old.item ? { ...old.item, ...chat.item } : undefined,
    last_message: newer(old.last_message, chat.last_message),
    read_up_to: later(old.read_up_to, chat.read_up_to),
    peer_read_up_to: later(old.peer_read_up_to, chat.peer_read_up_to),
    updated_at: later(old.updated_at, chat.updated_at),
    counted: counted(old.counted, chat),
  };
  return { ...state, chats: { ...state.chats, [chat.chat_id]: merged } };
}

/** Of two snapshots the one with the further read pointer counts, then the longer one. */
function counted(old, { read_up_to = '', seq = 0, unread: count = 0 }) {
  const isNewer = !old || read_up_to > old.read_up_to || (read_up_to === old.read_up_to && seq >= old.seq);
  return isNewer ? { read_up_to, seq, unread: count } : old;
}

/** Inserts by message_id; a message that is held already is replaced; one that was pending is pending no more. */
function withMessages(state, chatId, messages) {
  const byId = new Map((state.messages[chatId] ?? []).map((message) => [message.message_id, message]));
  for (const message of messages) byId.set(message.message_id, { ...byId.get(message.message_id), ...message });
  const sorted = [...byId.values()].sort((a, b) => (a.message_id < b.message_id ? -1 : 1));
  const answered = messages.filter(({ client_msg_id: id }) => id && state.pending[id]);
  return {
    ...state,
    messages: { ...state.messages, [chatId]: sorted },
    pending: answered.reduce((pending, { client_msg_id: id }) => without(pending, id), state.pending),
  };
}
