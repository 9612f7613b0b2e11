// A resting face: five seconds of a neutral face, and how far a later answer is from it.
// It is kept with the face's track, in the memory of this page alone.

import { byId, write } from "./live_page.js";
import { announce } from "./live_people.js";
import { seen } from "./live_stage.js";

const REST_MS = 5000;
const LEAST_ANSWERS = 5;

export class RestingFace {
  #id = null;
  #from = 0;
  #answers = [];

  get isTaken() { return this.#id !== null; }

  isOf(track) { return track.id === this.#id; }

  // false where there is no face to begin with
  begin(tracks, now) {
    const [nearest] = [...tracks.list].sort((one, other) => fromMiddle(one) - fromMiddle(other));
    this.#id = nearest?.id ?? null;
    this.#from = now;
    this.#answers = [];
    return this.isTaken;
  }

  take(tracks) {
    const track = tracks.list.find((each) => this.isOf(each));
    if (track && !track.misses) this.#answers.push(track.latest);
  }

  secondsLeft(now) { return Math.max(0, Math.ceil((this.#from + REST_MS - now) / 1000)); }

  // false where the face was not there for long enough
  finish(tracks) {
    const [id, answers] = [this.#id, this.#answers];
    this.cancel();
    return answers.length >= LEAST_ANSWERS && tracks.setRest(id, mean(answers));
  }

  cancel() { this.#id = null; }
}

// in sides of the face: of two as far away, the larger is meant
const fromMiddle = ({ box: [x, y, width, height] }) =>
  Math.hypot((x + width / 2 - 0.5) / width, (y + height / 2 - 0.5) / height);

function mean(answers) {
  return Object.fromEntries(Object.keys(answers[0]).map((name) =>
    [name, answers.reduce((sum, each) => sum + (each[name] ?? 0), 0) / answers.length]));
}

/* ---- its button, countdown and words ---- */

export const resting = new RestingFace();

export function beginResting(tracks, now) {
  if (!resting.begin(tracks, now)) return endResting("There is no face in view yet.");
  announce("Look at the camera with a neutral face for five seconds.", now);
  write(byId("rest-words"), "");
  countDown(tracks, now);
}

export function countDown(tracks, now) {
  if (!resting.isTaken) return;
  const seconds = resting.secondsLeft(now);
  const number = seen(tracks).findIndex((track) => resting.isOf(track)) + 1;
  const who = tracks.list.length > 1 && number ? `Person ${number}: look` : "Look";
  byId("countdown").hidden = false;
  write(byId("countdown"), `${who} neutral ${seconds}`);
  if (seconds > 0) return;
  endResting(resting.finish(tracks) ? "The resting face is set."
    : "Not set: the face was not in view for long enough. Try again.");
}

export function endResting(text = "") {
  resting.cancel();
  byId("countdown").hidden = true;
  write(byId("rest-words"), text);
}
