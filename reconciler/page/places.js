// How places of the page are written in its address.

/** `#/device/cam-1/main?from=…` as `{ place, path: [...], query }`. */
export function whereOf(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const [place = '', ...rest] = path.split('/').map(decodeURIComponent);
  return { place, path: rest, query: new URLSearchParams(query ?? '') };
}

/** The address of a camera, of one stream of it, and of a window of its timeline. */
export function deviceAt({ device, stream = null }, range = null) {
  const path = [device, stream].filter((part) => part !== null).map(encodeURIComponent).join('/');
  return `#/device/${path}${range ? `?${new URLSearchParams(range)}` : ''}`;
}
