/**
 * Where the reader is in a conversation: keeps the place while messages come and go above and below, and keeps the page
 * small: of thousands of messages only some hundred around the reader are drawn.
 */

const DRAWN = 160; // messages in the page
const MARGIN = 40; // of them beyond the reader, before the drawn stretch moves
const AT_END_PX = 48;
const AHEAD_PX = 800;
const NEW_LINE_TOP_PX = 96;

/**
 * Which of `count` messages to draw, `[from, to)`: the stretch of before, or where the one at `index` is too near to an edge
 * beyond which there are more, a stretch around it.
 */
export function stretch(count, index, [from, to] = [0, 0]) {
  const within = index >= from && index < to && to <= count;
  const roomAbove = from === 0 || index - from >= MARGIN;
  const roomBelow = to >= count || to - index >= MARGIN;
  if (within && roomAbove && roomBelow) return [from, to];
  const start = Math.max(0, Math.min(index - DRAWN / 2, count - DRAWN));
  return [start, Math.min(count, start + DRAWN)];
}

export class Place {
  /** Whether the reader is at the end, and stays there. */
  atEnd = true;
  /** Whether the reader has been put at the right place once. */
  settled = false;
  #scroller;
  #log;
  #leftAt = 0; // where the last drawing left the scroller

  /** `moved()`: the reader has scrolled. `hasNewer()`: the end of what is drawn is not the end. */
  constructor({ scroller, log, moved, hasNewer }) {
    this.#scroller = scroller;
    this.#log = log;
    this.hasNewer = hasNewer;
    scroller.addEventListener('scroll', () => {
      this.#note();
      moved();
    }, { passive: true });
    new ResizeObserver(() => this.settled && this.#stays() && this.toEnd()).observe(scroller);
  }

  /** Another conversation, or another place in this one, is going to be drawn. */
  reset() {
    this.atEnd = true;
    this.settled = false;
    this.#leftAt = 0;
  }

  /** What `restore` needs after a drawing: the first message in view and how far it is from the top. */
  save() {
    const element = this.firstInView();
    return { element, top: element?.offsetTop, stays: this.#stays() };
  }

  /** Puts the reader back, or stays with the end. */
  restore({ element, top, stays }) {
    if (stays) this.toEnd();
    else if (element?.isConnected) this.#scroller.scrollTop += element.offsetTop - top;
    this.#leftAt = this.#scroller.scrollTop;
  }

  /** Where to come back to: the first message in view and how far it is below the upper edge, in pixels; null for the end. */
  leave() {
    const element = this.settled && !this.#stays() ? this.firstInView() : null;
    return element && { id: element.dataset.id, top: element.offsetTop - this.#scroller.scrollTop };
  }

  /** Puts the reader for the first time: at a message, `top` pixels down or in the middle, below the line "new messages", or at the end. */
  settle({ message, top, newLine }) {
    this.settled = true;
    if (message && top !== null) this.#scroller.scrollTop = message.offsetTop - top;
    else if (message) this.#scroller.scrollTop = message.offsetTop - (this.#scroller.clientHeight - message.offsetHeight) / 2;
    else if (newLine) this.#scroller.scrollTop = newLine.offsetTop - NEW_LINE_TOP_PX;
    else this.toEnd();
    this.#note();
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#leftAt = this.#scroller.scrollTop;
    this.atEnd = !this.hasNewer();
  }

  get nearTop() {
    return this.#scroller.scrollTop < AHEAD_PX;
  }

  get nearBottom() {
    return this.#fromEnd() < AHEAD_PX;
  }

  /** The first message that is in view at least in part, or null. */
  firstInView() {
    const children = this.#log.children;
    let [low, high] = [0, children.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (children[middle].offsetTop + children[middle].offsetHeight > this.#scroller.scrollTop) high = middle;
      else low = middle + 1;
    }
    while (low < children.length && !children[low].dataset.id) low += 1;
    return children[low] ?? null;
  }

  /** Whether the beginning of this element has been in view. */
  hasSeen(element) {
    return element.offsetTop + Math.min(element.offsetHeight, 40) <= this.#scroller.scrollTop + this.#scroller.clientHeight;
  }

  /** Whether the reader stays at the end: is there, and has not begun to scroll up, which an event tells only later. */
  #stays() {
    if (this.#scroller.scrollTop < this.#leftAt && this.#fromEnd() >= AT_END_PX) this.atEnd = false;
    return this.atEnd;
  }

  #note() {
    this.atEnd = this.#fromEnd() < AT_END_PX && !this.hasNewer();
    this.#leftAt = this.#scroller.scrollTop;
  }

  #fromEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }
}
