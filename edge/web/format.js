/** Words for people: names, initials, days and times in the reader's own locale and time zone. Pure but for the locale. */

const DAY_MS = 86_400_000;
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
