/**
 * What one user knows of chats and messages: a state, and `reduce`, which folds results and notifications into it.
 * Pure: no DOM, no clock, no connection. Everything may arrive twice, late or out of order; the state comes out the same.
 * What the views ask of it is in selectors.js.
 *
 *     state = reduce(state, { type: 'message.new', message })
 *
 * | type                              | with                                   | from
 * | chats                             | chats, next_cursor, degraded           | chats.list
 * | chat                              | chat, degraded?                        | chats.open, .get, .mark_read, chat.updated
 * | history                           | chat_id, messages, has_more, and one   | messages.history: the newest page, or the one
 * |                                   | of before, after, around + has_newer   | before, after, around a message
 * | message.new, message.updated      | message                                | the notifications; messages.send, .edit
 * | message.deleted                   | chat_id, message_id                    | the notification, messages.delete
 * | receipt.read, receipt.delivered   | chat_id, user_id, up_to                | the notifications; a read that is not answered yet
 * | typing                            | chat_id, user_id                       | the notification; '' when it is over
 * | presence                          | presence: [{user_id, online, last_seen}] | the notification, presence.get
 * | blocked                           | user_id, blocked                       | users.block, users.unblock
 * | queued, failed, dropped           | message / client_msg_id, error         | sending
 * | changing                          | message_id, change                     | an edit or a deletion that is not answered; null when it is
 * | draft                             | chat_id, text                          | typing
 * | editing                           | chat_id, message, text                 | typing another text for a message; null when it is over
 * | resync                            | chat_id?                               | the connection: histories may have holes
 */

const CHANGES = 500; // remembered at most
const DRAFTS = 100; // kept at most

export const initialState = (me) => ({
  me,
  chats: {}, // chat_id -> chat, and `counted`: the snapshot {read_up_to, seq, unread} from which `unread` is counted on
  messages: {}, // chat_id -> messages by message_id, ascending
  history: {}, // chat_id -> {hasMore, until}: `messages` has all from its first one up to `until`, '' for the newest
  pending: {}, // client_msg_id -> {chat_id, text, client_msg_id, created_at, error}: not accepted yet
  changing: {}, // message_id -> {text} or {deleted: true}: not answered yet
  changed: {}, // message_id -> what was told of it last: a page that was read before may still come
  drafts: {}, // chat_id -> text, the one that was written last at the end
  edits: {}, // chat_id -> {message, text}: the message that is given another text, and how far that is
  typing: {}, // chat_id -> user_id
  presence: {}, // user_id -> {online, last_seen}
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

  history: (state, page) => {
    const { chat_id: chatId, messages = [] } = page;
    const held = state.messages[chatId] ?? [];
    const place = placeOf(page, messages, held, state.history[chatId]);
    if (!place) return state;
    const { kept, ...history } = place;
    return {
      ...withMessages({ ...state, messages: { ...state.messages, [chatId]: kept } }, chatId, messages),
      history: { ...state.history, [chatId]: history },
    };
  },

  'message.new': (state, { message }) => {
    const next = withTyping(withMessages(state, message.chat_id, [message]), message.chat_id, '', message.sender_id);
    return withChange(next, message.chat_id, ({ last_message: last }) => ({ last_message: newer(last, current(next, message)) }));
  },

  'message.updated': (state, { message }) => {
    const held = state.messages[message.chat_id]?.some(({ message_id: id }) => id === message.message_id);
    const known = withChanged(state, message);
    const next = held ? withMessages(known, message.chat_id, [message]) : known;
    return withChange(next, message.chat_id, ({ last_message: last }) =>
      (last?.message_id === message.message_id ? { last_message: merged(last, message) } : {}));
  },

  'message.deleted': (state, { chat_id: chatId, message_id: id }) => {
    const removed = { message_id: id, text: '', deleted: true };
    const gone = (message) => (message?.message_id === id ? { ...message, ...removed } : message);
    const messages = state.messages[chatId]?.map(gone) ?? [];
    const next = { ...withChanged(state, removed), messages: { ...state.messages, [chatId]: messages } };
    return withChange(next, chatId, ({ last_message: last }) => ({ last_message: gone(last) }));
  },

  'receipt.read': (state, { chat_id: chatId, user_id: userId, up_to: upTo }) =>
    withChange(state, chatId, (chat) => {
      const pointer = userId === state.me ? 'read_up_to' : 'peer_read_up_to';
      return { [pointer]: later(chat[pointer], upTo) };
    }),

  'receipt.delivered': (state, { chat_id: chatId, user_id: userId, up_to: upTo }) =>
    withChange(state, chatId, ({ peer_delivered_up_to: pointer }) =>
      (userId === state.me ? {} : { peer_delivered_up_to: later(pointer, upTo) })),

  typing: (state, { chat_id: chatId, user_id: userId }) => withTyping(state, chatId, userId),

  presence: (state, { presence = [] }) => {
    const known = presence.map(({ user_id: id, online = false, last_seen = '' }) => [id, { online, last_seen }]);
    return { ...state, presence: { ...state.presence, ...Object.fromEntries(known) } };
  },

  blocked: (state, { user_id: userId, blocked }) => {
    const chats = Object.values(state.chats).filter(({ peer }) => peer.user_id === userId);
    const changed = chats.reduce((next, { chat_id: id }) => withChange(next, id, () => ({ blocked })), state);
    return { ...changed, presence: without(changed.presence, userId) };
  },

  queued: (state, { message }) => ({ ...state, pending: { ...state.pending, [message.client_msg_id]: { ...message, error: null } } }),

  failed: (state, { client_msg_id: id, error }) =>
    (state.pending[id] ? { ...state, pending: { ...state.pending, [id]: { ...state.pending[id], error } } } : state),

  dropped: (state, { client_msg_id: id }) => ({ ...state, pending: without(state.pending, id) }),

  changing: (state, { message_id: id, change }) =>
    ({ ...state, changing: change ? { ...state.changing, [id]: change } : without(state.changing, id) }),

  draft: (state, { chat_id: chatId, text }) => ({ ...state, drafts: withDraft(state.drafts, chatId, text) }),

  editing: (state, { chat_id: chatId, message, text }) =>
    ({ ...state, edits: message ? { ...state.edits, [chatId]: { message, text } } : without(state.edits, chatId) }),

  resync: (state, { chat_id: chatId }) => ({ ...state, history: chatId ? without(state.history, chatId) : {} }),
};

/** Drafts with another text for a chat, '' for none. The one that was left alone longest goes where there are too many. */
export function withDraft(drafts, chatId, text) {
  const others = Object.entries(without(drafts, chatId));
  return Object.fromEntries((text ? [...others, [chatId, text]] : others).slice(-DRAFTS));
}

// --- where a page of history belongs ---------------------------------------------------------------------------------

/** `{hasMore, until, kept}`, `kept` being the held messages that stay; null for a page that was asked for before the place changed. */
function placeOf({ before, after, around, has_more: more = false, has_newer: newerThere = false }, messages, held, known) {
  const [first, last] = [messages[0]?.message_id ?? '', messages.at(-1)?.message_id ?? ''];
  const fromFirst = () => held.filter(({ message_id: id }) => id > first);
  if (before) return known && before === held[0]?.message_id ? { ...known, hasMore: more, kept: held } : null;
  if (after) return known?.until && after === known.until ? { ...known, until: more ? last : '', kept: held } : null;
  if (around) return { hasMore: more, until: newerThere ? last : '', kept: fromFirst() };
  const joins = known ? !known.until || first <= known.until : !more;
  return { hasMore: more && (!joins || !known || known.hasMore), until: '', kept: joins ? held : fromFirst() };
}

// --- folding ---------------------------------------------------------------------------------------------------------

const later = (a = '', b = '') => (a > b ? a : b);
const without = (object, key) => (key in object ? Object.fromEntries(Object.entries(object).filter(([k]) => k !== key)) : object);

/** Of two copies of one message the one that changed last; what is deleted stays so. `client_msg_id` comes in own copies only. */
function merged(old, message) {
  const at = ({ edited_at: edited }) => (edited ? Date.parse(edited) : 0);
  const stale = old?.deleted || (old && at(old) > at(message) && !message.deleted);
  return stale ? { ...message, ...old } : { ...old, ...message };
}

/** Remembers what was told of a message; of the longest past changes nothing older can be on its way any more. */
function withChanged(state, message) {
  const { message_id: id } = message;
  const changed = Object.entries({ ...without(state.changed, id), [id]: merged(state.changed[id], message) });
  return { ...state, changed: Object.fromEntries(changed.slice(-CHANGES)) };
}

/** A message as it stands by what has been told of it meanwhile. */
const current = (state, message) => (message && state.changed[message.message_id] ? merged(state.changed[message.message_id], message) : message);

/** The later of two messages; of two copies of one, what both say. */
function newer(a, b) {
  if (a && b && a.message_id === b.message_id) return merged(a, b);
  return (a?.message_id ?? '') > (b?.message_id ?? '') ? a : b;
}

/** Changes fields of a chat that is known. */
function withChange(state, chatId, change) {
  const chat = state.chats[chatId];
  return chat ? { ...state, chats: { ...state.chats, [chatId]: { ...chat, ...change(chat) } } } : state;
}

/** Says who types in a chat, '' for nobody; `only` whose typing may end thereby. */
function withTyping(state, chatId, userId, only = state.typing[chatId]) {
  if (userId) return { ...state, typing: { ...state.typing, [chatId]: userId } };
  return only && state.typing[chatId] === only ? { ...state, typing: without(state.typing, chatId) } : state;
}

/** Pointers only move forward; names that a degraded answer leaves out stay; whether it is blocked, the later version says. */
function withChat(state, chat) {
  const old = state.chats[chat.chat_id] ?? {};
  const { version = 0 } = old;
  const snapshot = {
    ...old,
    ...chat,
    version: Math.max(version, chat.version ?? 0),
    blocked: (chat.version ?? 0) < version ? old.blocked : chat.blocked ?? false,
    peer: { ...old.peer, ...chat.peer },
    item: chat.item || old.item ? { ...old.item, ...chat.item } : undefined,
    last_message: newer(old.last_message, current(state, chat.last_message)),
    read_up_to: later(old.read_up_to, chat.read_up_to),
    peer_read_up_to: later(old.peer_read_up_to, chat.peer_read_up_to),
    peer_delivered_up_to: later(old.peer_delivered_up_to, chat.peer_delivered_up_to),
    updated_at: later(old.updated_at, chat.updated_at),
    counted: counted(old.counted, chat),
  };
  return { ...state, chats: { ...state.chats, [chat.chat_id]: snapshot } };
}

/** Of two snapshots the one with the further read pointer counts, then the longer one. */
function counted(old, { read_up_to = '', seq = 0, unread: count = 0 }) {
  const isNewer = !old || read_up_to > old.read_up_to || (read_up_to === old.read_up_to && seq >= old.seq);
  return isNewer ? { read_up_to, seq, unread: count } : old;
}

/** Inserts messages, which are in order; one that was pending is pending no more. */
function withMessages(state, chatId, messages) {
  const answered = messages.filter(({ client_msg_id: id }) => id && state.pending[id]);
  return {
    ...state,
    messages: { ...state.messages, [chatId]: inserted(state.messages[chatId] ?? [], messages.map((message) => current(state, message))) },
    pending: answered.reduce((pending, { client_msg_id: id }) => without(pending, id), state.pending),
  };
}

/** By message_id, each once. At either end, where nearly all come in, without sorting thousands again. */
function inserted(held, messages) {
  if (!held.length || !messages.length) return messages.length ? messages : held;
  if (held.at(-1).message_id < messages[0].message_id) return [...held, ...messages];
  if (messages.at(-1).message_id < held[0].message_id) return [...messages, ...held];
  const byId = new Map(held.map((message) => [message.message_id, message]));
  for (const message of messages) byId.set(message.message_id, merged(byId.get(message.message_id), message));
  return [...byId.values()].sort((a, b) => (a.message_id < b.message_id ? -1 : 1));
}
