// @ts-check

/** What a node shows at one moment; without an answer `visits` is null. @typedef {{node: string, visits: number | null, cut?: boolean}} Shown */
/** What a node is asked to do. @typedef {{act: "burst" | "cut" | "heal", node: string, visits?: number}} Order */
/** @typedef {{number: number, title: string, press: string, watch: string, button: string, orders: Order[], done: boolean}} Step */

export const STEPS = 4;
const MORE = 50;
const FEWER = 20;

/**
 * The tour through a split: count, cut, count on both sides, heal. A step is done when the nodes show it, whoever did it.
 * The far side is one node, chosen at the start.
 */
export class Tour {
  /** 0 before the tour and after it was left, STEPS + 1 when it is over. */
  #number = 0;
  #done = false;
  #near = "";
  #far = "";
  /** @type {Shown[]} the newest reading */
  #shown = [];
  /** @type {Map<string, number>} the nodes' numbers when the step began */
  #before = new Map();
  /** How many visits the far side counted alone. */
  #alone = 0;
  /** What all nodes will show after healing. */
  #sum = 0;

  /** Whether the tour was started and not left. It stays open at its end. */
  get open() {
    return this.#number > 0;
  }

  get over() {
    return this.#number > STEPS;
  }

  /**
   * Start, or start again.
   * @param {Shown[]} shown
   * @returns {Order[]} what to do first: a node that is cut off already would hear nothing of the first step
   */
  start(shown) {
    this.#shown = shown;
    const names = answering(shown).map(({ node }) => node);
    if (names.length < 2) return [];
    [this.#near, this.#far] = [names[0] ?? "", names.at(-1) ?? ""];
    this.#enter(1);
    return shown.flatMap(({ node, cut }) => (cut ? [{ act: "heal", node }] : []));
  }

  /**
   * Leave the tour at any step.
   * @returns {Order[]} what to do so that no node stays cut off
   */
  leave() {
    this.#number = 0;
    return this.#at(this.#far)?.cut ? [{ act: "heal", node: this.#far }] : [];
  }

  /** Go to the next step if this one is done. */
  next() {
    if (this.#done) this.#enter(this.#number + 1);
  }

  /**
   * Take a new reading into account.
   * @param {Shown[]} shown
   */
  see(shown) {
    this.#shown = shown;
    if (!this.open || this.over) return;
    const cut = this.#at(this.#far)?.cut;
    // Somebody healed the node before both sides counted: repeat the step before.
    if (this.#number === 3 && !this.#done && cut === false) return this.#enter(2);
    this.#done ||= this.#isDone(cut);
  }

  /** @param {boolean | undefined} cut whether the far side is cut off; undefined if it does not answer */
  #isDone(cut) {
    const near = this.#at(this.#near)?.visits ?? 0;
    const far = this.#at(this.#far)?.visits ?? 0;
    const least = Math.min(...answering(this.#shown).map(({ visits }) => visits));
    switch (this.#number) {
      case 1:
        return cut === false && least >= Math.max(...this.#before.values()) + MORE;
      case 2:
        return cut === true;
      case 3: {
        const nearMore = near - (this.#before.get(this.#near) ?? 0);
        const farMore = far - (this.#before.get(this.#far) ?? 0);
        this.#alone = farMore;
        this.#sum = near + farMore;
        return nearMore >= MORE && farMore >= FEWER;
      }
      default:
        return cut === false && least >= this.#sum;
    }
  }

  /** @param {number} number */
  #enter(number) {
    if (number === 4) this.#sum = (this.#at(this.#near)?.visits ?? 0) + this.#alone;
    this.#number = number;
    this.#done = false;
    this.#before = new Map(answering(this.#shown).map(({ node, visits }) => [node, visits]));
    // Somebody may have done it already.
    if (number === 2) this.see(this.#shown);
  }

  /** @param {string} name */
  #at(name) {
    return this.#shown.find(({ node }) => node === name);
  }

  /**
   * What to say about the present step.
   * @returns {Step}
   */
  get step() {
    const [near, far] = [this.#near, this.#far];
    /** @type {Omit<Step, "number" | "done">[]} */
    const steps = [
      {
        title: "Count",
        press: `Send ${MORE} visits to ${near}.`,
        watch: "One node counts them. A moment later all nodes show the same number.",
        button: `Send ${MORE} visits`,
        orders: [{ act: "burst", node: near, visits: MORE }],
      },
      {
        title: "Cut",
        press: `Cut ${far} off from the others.`,
        watch: `No number falls and nothing fails. ${far} is alone, and every node still counts visits.`,
        button: `Cut ${far} off`,
        orders: [{ act: "cut", node: far }],
      },
      {
        title: "Count on both sides",
        press: `Send ${MORE} visits to ${near} and ${FEWER} to ${far}.`,
        watch: "The lines part: each side knows only its own visits.",
        button: "Send visits to both",
        orders: [
          { act: "burst", node: near, visits: MORE },
          { act: "burst", node: far, visits: FEWER },
        ],
      },
      {
        title: "Heal",
        press: `Let ${far} hear the others again.`,
        watch: "The lines meet at the sum of both sides. No visit is lost, and none is counted twice.",
        button: `Heal ${far}`,
        orders: [{ act: "heal", node: far }],
      },
    ];
    const step = steps[Math.min(this.#number, STEPS) - 1] ?? steps[0];
    return /** @type {Step} */ ({ ...step, number: this.#number, done: this.#done });
  }
}

/**
 * @param {Shown[]} shown
 * @returns {{node: string, visits: number}[]} by name
 */
function answering(shown) {
  return shown
    .flatMap(({ node, visits }) => (visits === null ? [] : [{ node, visits }]))
    .sort((left, right) => (left.node < right.node ? -1 : 1));
}
