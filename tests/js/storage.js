// @ts-check

/** A storage like the browser's, shared by whoever is given it, of a limited size. */
export class FakeStorage {
  /** @type {Map<string, string>} */
  #items = new Map();
  full = false;
  denied = false;

  get length() {
    this.#check();
    return this.#items.size;
  }

  /** @param {number} place */
  key(place) {
    return [...this.#items.keys()][place] ?? null;
  }

  /** @param {string} name */
  getItem(name) {
    this.#check();
    return this.#items.get(name) ?? null;
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  setItem(name, text) {
    this.#check();
    if (this.full) throw new Error("QuotaExceededError");
    this.#items.set(name, text);
  }

  /** @param {string} name */
  removeItem(name) {
    this.#check();
    this.#items.delete(name);
  }

  clear() {
    this.#items.clear();
  }

  #check() {
    if (this.denied) throw new Error("SecurityError");
  }
}
