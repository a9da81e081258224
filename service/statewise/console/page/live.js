// How the server is, asked once a second while the page is seen.

import { ask } from "./dom.js";

const EVERY = 1000; // milliseconds
const KEPT = 300; // samples, a second each

/** The last overview and samples; tells of new ones with the event `told`, and of a server that does not answer with `lost`. */
export class Live extends EventTarget {
  overview = null;
  samples = [];
  #last = 0;

  start() {
    const again = async () => {
      if (!document.hidden) await this.#look();
      setTimeout(again, EVERY);
    };
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
    again();
  }

  async #look() {
    try {
      this.#take(await ask(`api/overview?after=${this.#last}`));
      this.dispatchEvent(new Event("told"));
    } catch (problem) {
      this.dispatchEvent(Object.assign(new Event("lost"), { problem }));
    }
  }

  #take(overview) {
    if (this.overview && overview.instance !== this.overview.instance) { // another run of the server counts anew
      this.samples = [];
      const missed = this.#last > 0;
      this.#last = 0;
      if (missed) overview.samples = [];
    }
    this.overview = overview;
    const fresh = overview.samples.filter((sample) => sample.number > this.#last);
    this.samples = [...this.samples, ...fresh].slice(-KEPT);
    this.#last = this.samples.at(-1)?.number ?? this.#last;
  }
}
