/** A menu beside the button that opens it: keyboard, focus and position; what it offers is the caller's. */

import { h, icon } from './dom.js';

const menu = document.getElementById('menu');
const GAP_PX = 4;
let opener = null;

/** Opens the menu at a button. `items`: `{label, icon, act, danger?}`; null items are left out. */
export function openMenu(button, items) {
  opener = button;
  menu.replaceChildren(...items.filter(Boolean).map(drawItem));
  menu.showPopover();
  place(button.getBoundingClientRect());
  menu.querySelector('button').focus();
}

export const menuIsOpen = () => menu.matches(':popover-open');

function drawItem({ label, icon: name, act, danger = false }) {
  const choose = () => {
    close();
    act();
  };
  return h('button', { type: 'button', role: 'menuitem', tabindex: '-1', class: danger ? 'danger' : '', onclick: choose }, icon(name), label);
}

/** Below the button, or above where there is no room; never outside of the window. */
function place({ top, bottom, left, right }) {
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = bottom + GAP_PX;
  menu.style.top = `${below + height > innerHeight ? Math.max(GAP_PX, top - GAP_PX - height) : below}px`;
  menu.style.left = `${Math.min(Math.max(GAP_PX, left + width > innerWidth ? right - width : left), innerWidth - width - GAP_PX)}px`;
}

function close() {
  menu.hidePopover();
  if (opener?.isConnected) opener.focus();
}

menu.addEventListener('keydown', (event) => {
  const items = [...menu.children];
  const at = items.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === 'Escape' || event.key === 'Tab') close();
  else if (next !== undefined) items.at(next % items.length).focus();
  else return;
  event.preventDefault();
  event.stopPropagation();
});
