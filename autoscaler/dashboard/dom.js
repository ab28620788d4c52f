// Trees of nodes, and bringing the document to match one without touching what stays: focus, selection and open <details> survive.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes, ...children) {
  return { tag, attributes, children: children.flat().filter((child) => child !== "" && child !== null && child !== undefined && child !== false) };
}

export function patch(parent, children) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.patchKey !== undefined) keyed.set(node.patchKey, node);
  let place = parent.firstChild;
  for (const child of children.flat().filter((one) => one !== "" && one !== null && one !== undefined)) {
    const key = child.attributes?.key;
    let node = key === undefined ? (place && place.patchKey === undefined ? place : null) : keyed.get(key);
    if (node && !fits(node, child)) node = null;
    if (!node) {
      node = create(child, parent);
      parent.insertBefore(node, place);
    } else if (node !== place) {
      parent.insertBefore(node, place);
    }
    update(node, child);
    place = node.nextSibling;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const fits = (node, child) => (child.tag === undefined ? node.nodeType === Node.TEXT_NODE : node.localName === child.tag);

function create(child, parent) {
  if (child.tag === undefined) return document.createTextNode("");
  const inSvg = child.tag === "svg" || (parent.namespaceURI === SVG && parent.localName !== "foreignObject");
  const node = inSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  node.patchKey = child.attributes.key;
  return node;
}

function update(node, child) {
  if (child.tag === undefined) {
    if (node.data !== String(child)) node.data = String(child);
    return;
  }
  for (const name of node.getAttributeNames()) {
    if (!(name in child.attributes) && name !== "open") node.removeAttribute(name); // the reader opened it
  }
  for (const [name, value] of Object.entries(child.attributes)) {
    if (name !== "key" && node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
  patch(node, child.children);
}
