// @ts-check

/** @import {SideBySide} from "./side_by_side.js" */
/** @import {Shown} from "./tour.js" */

import { element, write } from "./dom.js";
import { STEPS, Tour } from "./tour.js";

/** The panel of the tour. Its one button does the step, then leads to the next. */
export class TourPanel {
  #tour = new Tour();
  /** @type {SideBySide} */
  #sideBySide;
  #panel;
  #go = element("tour-go");
  #leave = element("tour-leave");
  #steps = /** @type {HTMLElement[]} */ ([...element("tour-steps").children]);
  /** The panel's texts before the tour. */
  #invitation = ["tour-title", "tour-press", "tour-watch"].map((id) => element(id).textContent ?? "");
  /** Whether the nodes were asked to do this step, but do not show it yet. */
  #asked = false;

  /**
   * @param {HTMLElement} panel
   * @param {SideBySide} sideBySide
   */
  constructor(panel, sideBySide) {
    this.#panel = panel;
    this.#sideBySide = sideBySide;
    this.#go.addEventListener("click", () => this.#press());
    this.#leave.addEventListener("click", () => this.#stop());
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#tour.open) this.#stop();
    });
  }

  /**
   * Take a new reading into account.
   * @param {Shown[]} shown
   */
  see(shown) {
    const before = this.#tour.step.number;
    this.#tour.see(shown);
    // The tour goes a step back when somebody else heals the node.
    if (this.#tour.step.number !== before) this.#asked = false;
    this.#draw();
  }

  async #press() {
    if (!this.#tour.open || this.#tour.over) {
      const orders = this.#tour.start(this.#sideBySide.nodes);
      if (!this.#tour.open) write(element("problem"), "The tour needs two nodes that answer. Start another node.");
      this.#draw();
      await this.#sideBySide.order(orders);
    } else if (this.#tour.step.done) {
      this.#tour.next();
      this.#asked = false;
      this.#draw();
    } else if (!this.#asked) {
      this.#asked = true;
      this.#draw();
      this.#asked = await this.#sideBySide.order(this.#tour.step.orders);
      this.#draw();
    }
  }

  #stop() {
    const orders = this.#tour.leave();
    this.#asked = false;
    this.#draw();
    this.#go.focus();
    void this.#sideBySide.order(orders);
  }

  #draw() {
    const { open, over, step } = this.#tour;
    if (step.done) this.#asked = false;
    this.#panel.dataset.state = open ? (step.done ? "done" : "open") : "closed";
    this.#steps.forEach((item, place) => {
      const passed = open && (place + 1 < step.number || (place + 1 === step.number && step.done));
      item.classList.toggle("done", passed);
      if (open && place + 1 === step.number) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    const [title = "", press = "", watch = ""] = !open
      ? this.#invitation
      : over
        ? ["That was it", "Both sides counted alone, and every node ended with the exact sum.", "Longer splits end the same way."]
        : [`${step.number} of ${STEPS}: ${step.title}`, step.press, step.watch];
    write(element("tour-title"), title);
    write(element("tour-press"), press);
    write(element("tour-watch"), watch);
    write(this.#go, this.#label());
    this.#go.setAttribute("aria-disabled", String(this.#asked));
    this.#leave.hidden = !open;
    write(this.#leave, over ? "Close" : "Leave the tour");
  }

  #label() {
    const { open, over, step } = this.#tour;
    if (!open) return "Start the tour";
    if (over) return "Start again";
    if (step.done) return step.number === STEPS ? "Done: finish" : "Done: next step";
    return this.#asked ? "Watch the chart …" : step.button;
  }
}
