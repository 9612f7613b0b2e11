// How often pictures of the camera are sent, and how large: as much as the server can do.

const LEVELS = [
  { side: 320, quality: 0.6 },
  { side: 480, quality: 0.7 },
  { side: 640, quality: 0.75 },
  { side: 960, quality: 0.8 },
  { side: 1280, quality: 0.8 },
];
const FIRST = 3;  // what is not found at first would not be looked for
const READABLE_PX = 48;  // the model sees a face at this size
const KNOWN_MS = 10000;
const SLOW_MS = 300;
const TOO_SLOW_MS = 1000;  // rather small faces unread than answers this late
const FAST_MS = 120;
const LITTLE_GAIN = 0.85;
const SETTLED = 5;
const MOST_PER_SECOND = 15;
const LEAST_PER_SECOND = 0.5;
const RATE_OVER_MS = 3000;

export class Pace {
  level = FIRST;
  perSecond = MOST_PER_SECOND;
  roundTripMs = null;
  serverMs = null;
  isServerSlow = false;  // else what takes the time is the way to it
  failures = 0;
  #answeredAt = [];
  #sinceChange = 0;
  #largest = this.level;
  #beforeMs = null;  // how long the last size took, until it is known what a smaller one gains
  #slowMs = SLOW_MS;
  #needed = 0;  // level at which the smallest face that was found can be read
  #neededAt = 0;
  #patience = 30;  // grows each time that larger pictures prove too slow

  get frame() { return LEVELS[this.level]; }
  get isReduced() { return this.level < Math.min(this.#largest, Math.max(FIRST, this.#needed)); }
  get intervalMs() { return 1000 / this.perSecond; }

  // while most of the time goes by on the way, a second picture may be on it
  get mostUnderway() {
    return this.serverMs !== null && this.roundTripMs > 3 * this.serverMs ? 2 : 1;
  }

  // smallest: the side of the smallest face that was found, as a share of the picture's; 0 for none
  answered(roundTripMs, serverMs, smallest, now) {
    const at = LEVELS.findIndex(({ side }) => side * smallest >= READABLE_PX);
    const needed = !smallest ? 0 : at < 0 ? LEVELS.length - 1 : at;
    if (needed >= this.#needed || now - this.#neededAt > KNOWN_MS) {
      [this.#needed, this.#neededAt] = [needed, now];
    }
    this.failures = 0;
    this.perSecond = Math.min(MOST_PER_SECOND, this.perSecond + 0.2);
    this.roundTripMs = blend(this.roundTripMs, roundTripMs, 0.2);
    if (serverMs !== null) this.serverMs = blend(this.serverMs, serverMs, 0.2);
    this.isServerSlow = this.serverMs > this.roundTripMs / 2;
    this.#answeredAt.push(now);
    this.#resize();
  }

  #resize() {
    this.#sinceChange += 1;
    const slowMs = this.level > this.#needed ? this.#slowMs : Math.max(TOO_SLOW_MS, this.#slowMs);
    const fastMs = this.level < this.#needed ? SLOW_MS : FAST_MS;
    // nobody wants to wait for several answers to learn that they take seconds
    if (this.#sinceChange < (this.roundTripMs > 3 * this.#slowMs ? 2 : SETTLED)) return;
    if (this.#beforeMs !== null && this.roundTripMs > LITTLE_GAIN * this.#beforeMs) {
      // it is not the size that takes the time
      this.#slowMs = 1.5 * this.roundTripMs;
      this.#change(+1);
    } else if (this.level > 0 && this.roundTripMs > slowMs) {
      const beforeMs = this.roundTripMs;
      this.#patience = Math.min(2 * this.#patience, 1000);
      this.#change(-1);
      this.#beforeMs = beforeMs;
    } else if (this.level < LEVELS.length - 1 && this.roundTripMs < fastMs
               && this.#sinceChange >= this.#patience) {
      this.#change(+1);
    } else {
      this.#beforeMs = null;
    }
  }

  #change(by) {
    this.level += by;
    this.#largest = Math.max(this.#largest, this.level);
    this.#sinceChange = 0;
    this.#beforeMs = null;
    this.roundTripMs = null;
  }

  refused(retryAfterS) {
    this.perSecond = Math.max(LEAST_PER_SECOND, this.perSecond / 2);
    return this.#later(retryAfterS, 20);
  }

  unreachable() { return this.#later(1, 10); }

  tooLarge() { if (this.level > 0) this.#change(-1); }

  // clients that were refused together do not come back together
  #later(fromS, mostS) {
    const longer = Math.max(fromS, Math.min(mostS, fromS * 2 ** this.failures));
    this.failures += 1;
    return 1000 * longer * (1 + Math.random() / 4);
  }

  framesPerSecond(now) {
    this.#answeredAt = this.#answeredAt.filter((at) => now - at < RATE_OVER_MS);
    const count = this.#answeredAt.length;
    return count < 2 ? count / (RATE_OVER_MS / 1000)
      : (count - 1) * 1000 / Math.max(1, now - this.#answeredAt[0]);
  }
}

function blend(old, fresh, weight) {
  return old === null || old === undefined ? fresh : old + weight * (fresh - old);
}
