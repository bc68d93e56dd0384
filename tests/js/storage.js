// @ts-check

/** A storage in memory. Its items are its own properties, as in a browser. */
export class MapStorage {
  /** @param {Record<string, string>} items */
  constructor(items = {}) {
    Object.assign(this, items);
  }

  get length() {
    return Object.keys(this).length;
  }

  /** @param {number} index */
  key(index) {
    return Object.keys(this)[index] ?? null;
  }

  clear() {
    for (const place of Object.keys(this)) this.removeItem(place);
  }

  /**
   * @param {string} place
   * @returns {string | null}
   */
  getItem(place) {
    return /** @type {Record<string, any>} */ (this)[place] ?? null;
  }

  /**
   * @param {string} place
   * @param {string} text
   */
  setItem(place, text) {
    Reflect.set(this, place, text);
  }

  /** @param {string} place */
  removeItem(place) {
    Reflect.deleteProperty(this, place);
  }
}

/** A storage that is full. */
export class FullStorage extends MapStorage {
  setItem() {
    throw new Error("full");
  }
}
