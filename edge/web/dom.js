/** Building elements. Text goes in as text nodes only: nothing that a user wrote is ever parsed as HTML. */

const SVG = 'http://www.w3.org/2000/svg';

/** An element: `h('p', { class: 'note', onclick: f, 'aria-label': 'x' }, 'text', child)`. Empty children are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element[name] = value;
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== ''));
  return element;
}

/** An icon of the sprite in index.html. Without a label it is decoration. */
export function icon(name, label = '') {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  svg.setAttribute('class', `icon icon-${name}`);
  if (label) {
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', label);
  } else svg.setAttribute('aria-hidden', 'true');
  return svg;
}

/**
 * Makes `parent`'s children the elements of `rows`, in their order, touching only what changed.
 * `rows`: `{key, ...}`, keys unique; `draw(row)` builds an element; `signature(row)` says when it must be built anew.
 * `drawn`: a Map of the caller's that remembers what is there.
 */
export function reconcile(parent, drawn, rows, signature, draw) {
  const keys = new Set(rows.map(({ key }) => key));
  for (const [key, { element }] of drawn) {
    if (keys.has(key)) continue;
    element.remove();
    drawn.delete(key);
  }
  let next = parent.firstChild;
  for (const row of rows) {
    const { element } = redraw(drawn, row, signature(row), draw);
    if (element === next) next = next.nextSibling;
    else parent.insertBefore(element, next);
  }
}

function redraw(drawn, row, signature, draw) {
  const old = drawn.get(row.key);
  if (old?.signature === signature) return old;
  const fresh = { element: draw(row, old?.element), signature };
  if (old && old.element !== fresh.element) old.element.replaceWith(fresh.element);
  drawn.set(row.key, fresh);
  return fresh;
}
