/** Words for people: names, initials, days and times in the reader's own locale and time zone. Pure but for the locale. */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const LEAD = 24; // characters before a hit
const time = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const shortWeekday = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long' });
const shortDay = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const fullDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

export const nameOf = (peer) => peer.name || peer.user_id;

/** One or two letters: of the first and the last word. */
export function initials(name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const picked = words.length > 1 ? [words[0], words.at(-1)] : words;
  return picked.map((word) => [...word][0].toLocaleUpperCase()).join('') || '?';
}

/** A hue in degrees that stays with the user id. */
export function hue(userId) {
  let hash = 0;
  for (const character of userId) hash = (hash * 31 + character.codePointAt(0)) % 3_600;
  return (hash * 137) % 360;
}

export const clock = (date) => time.format(date);
export const exactly = (date) => exact.format(date);

/** A day line: today, yesterday, a weekday of this week, a date. */
export function dayName(date, now) {
  const ago = daysBetween(date, now);
  if (ago === 0 || ago === 1) return capitalised(relative.format(-ago, 'day'));
  if (ago > 1 && ago < 7) return capitalised(weekday.format(date));
  return date.getFullYear() === now.getFullYear() ? dayAndMonth.format(date) : fullDate.format(date);
}

/** The time in the chat list, as short as it can be. */
export function when(date, now) {
  const ago = daysBetween(date, now);
  if (ago <= 0) return time.format(date);
  if (ago === 1) return capitalised(relative.format(-1, 'day'));
  return ago < 7 ? shortWeekday.format(date) : shortDay.format(date);
}

/** `online`, or when somebody was there last, as exact as a person would say it. '' where that is not known. */
export function presenceText({ online, last_seen: lastSeen }, now) {
  if (online) return 'online';
  if (!lastSeen) return '';
  const date = new Date(lastSeen);
  const minutes = Math.max(0, Math.round((now - date) / MINUTE_MS));
  if (minutes < 1) return 'last seen just now';
  if (minutes < 60) return `last seen ${relative.format(-minutes, 'minute')}`;
  const ago = daysBetween(date, now);
  if (ago < 2) return `last seen ${relative.format(-ago, 'day')} at ${clock(date)}`;
  return `last seen on ${date.getFullYear() === now.getFullYear() ? dayAndMonth.format(date) : fullDate.format(date)}`;
}

/** The part of a text around the first place where `query` stands, whatever the case: `[{text, hit}, ...]`. */
export function highlighted(text, query) {
  const at = text.toLowerCase().indexOf(query.toLowerCase());
  if (at < 0) return [{ text, hit: false }];
  const from = at > LEAD ? text.indexOf(' ', at - LEAD) + 1 : 0;
  const start = from > 0 && from <= at ? from : Math.max(0, at > LEAD ? at - LEAD : 0);
  const parts = [[`${start ? '…' : ''}${text.slice(start, at)}`, false], [text.slice(at, at + query.length), true], [text.slice(at + query.length), false]];
  return parts.filter(([part]) => part).map(([part, hit]) => ({ text: part, hit }));
}

/** Splits text at its web addresses: `[{text, href?}, ...]`. Only http and https become addresses. */
export function linked(text) {
  const parts = text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,:;!?)\]}])/i);
  return parts.map((part, i) => (i % 2 ? { text: part, href: part } : { text: part })).filter((part) => part.text);
}

/** Length as the server counts it: in characters, not in UTF-16 units. */
export const lengthOf = (text) => [...text].length;

const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
const daysBetween = (date, now) => Math.round((midnight(now) - midnight(date)) / DAY_MS);
const capitalised = (text) => text.charAt(0).toLocaleUpperCase() + text.slice(1);
