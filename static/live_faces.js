// The same face from answer to answer: averaged, so that what is shown of it does not flicker.

const EMOTION_MS = 600;
const BOX_MS = 80;
const NOTE_MS = 1000;
const SAME_FACE = 0.7;
const SAME_PERSON = 1.5;  // whoever comes back near where they left is the same person
const AWAY_MS = 10000;    // ... if they were away for no longer
const HISTORY_MS = 10000;
const CLEARLY_LEFT = 0.3;
const CLEAR_RISE = 0.1;  // of a probability, 10 points: less is no more than flicker

export class Tracks {
  list = [];
  largest = null;
  #away = [];

  // boxes are kept as shares of the picture, whose size may change
  update(results, now) {
    const { width, height } = results.image;
    const faces = results.faces.map((face) => ({
      box: [face.box.x / width, face.box.y / height, face.box.width / width,
            face.box.height / height],
      probabilities: face.probabilities,
      // a number in it would change with every picture
      notes: face.notes.map((note) => note.replace(/ \(\d+ px\)/, "")),
    }));
    const pairs = nearest(this.list, faces, SAME_FACE);
    const known = this.list
      .map((track) => (pairs.has(track) ? followed(track, pairs.get(track), now) : missed(track)));
    const matched = new Set(pairs.values());
    const fresh = faces.filter((face) => !matched.has(face));
    this.#away = [...this.#away, ...known.filter((track) => track.misses >= 2)]
      .map((track) => ({ ...track, awayFrom: track.awayFrom ?? now }))
      .filter((track) => now - track.awayFrom < AWAY_MS);
    const back = nearest(this.#away, fresh, SAME_PERSON);
    this.#away = this.#away.filter((track) => !back.has(track));
    const before = new Map([...back].map(([track, face]) => [face, track]));
    this.list = fromLeft([...known.filter((track) => track.misses < 2),
                          ...fresh.map((face) => begun(face, now, before.get(face)))]);
    this.#choose();
  }

  // no answers: nobody can be told to be there, nor to have left
  lose() {
    this.#away = [...this.#away, ...this.list].map((track) => ({ ...track, awayFrom: null }));
    [this.list, this.largest] = [[], null];
  }

  // rest: null to forget it; tells whether that face is still there
  setRest(id, rest) {
    this.list = this.list.map((track) => (track.id === id ? { ...track, rest } : track));
    return this.list.some((track) => track.id === id);
  }

  // of faces about as large as each other, the one that was chosen stays it
  #choose() {
    const lead = (track) => area(track) * (track.id === this.largest?.id ? 1.3 : 1);
    this.largest = this.list.reduce((most, each) => (most && lead(most) >= lead(each) ? most : each), null);
  }
}

export const area = ({ box }) => box[2] * box[3];

// people who stand one behind the other do not change places all the time
function fromLeft(list) {
  for (let last = 1; last < list.length; last += 1) {
    for (let at = last; at > 0; at -= 1) {
      const [one, other] = [list[at - 1].box, list[at].box];
      if (other[0] >= one[0] - CLEARLY_LEFT * Math.min(one[2], other[2])) break;
      [list[at - 1], list[at]] = [list[at], list[at - 1]];
    }
  }
  return list;
}

function nearest(tracks, faces, atMost) {
  const options = tracks.flatMap((track) => faces.map((face) => [distance(track, face), track, face]));
  options.sort((one, other) => one[0] - other[0]);
  const pairs = new Map();
  const taken = new Set();
  for (const [far, track, face] of options) {
    if (far > atMost || pairs.has(track) || taken.has(face)) continue;
    pairs.set(track, face);
    taken.add(face);
  }
  return pairs;
}

// how far apart the middles are, in sides of the larger face
function distance({ box: a }, { box: b }) {
  const across = (a[0] + a[2] / 2 - b[0] - b[2] / 2) / Math.max(a[2], b[2]);
  const down = (a[1] + a[3] / 2 - b[1] - b[3] / 2) / Math.max(a[3], b[3]);
  return Math.hypot(across, down);
}

function begun(face, now, before) {
  const { id = Symbol("face"), rest = null } = before ?? {};
  const notes = new Map(face.notes.map((note) => [note, 0]));
  const latest = face.probabilities;
  return { ...face, id, rest, latest, history: after(before, latest, now), notes, seenAt: now, misses: 0 };
}

function after(track, probabilities, now) {
  return [...(track?.history ?? []), [now, probabilities]].filter(([at]) => now - at < HISTORY_MS);
}

function missed(track) { return { ...track, misses: track.misses + 1 }; }

function followed(track, face, now) {
  // also where answers are rare, no single one counts more than all before it
  const weight = (overMs) => Math.min(0.5, 1 - Math.exp(-(now - track.seenAt) / overMs));
  const mix = (old, fresh, overMs) => old + weight(overMs) * (fresh - old);
  const probabilities = Object.fromEntries(Object.entries(face.probabilities).map(
    ([name, value]) => [name, mix(track.probabilities[name] ?? value, value, EMOTION_MS)]));
  const notes = new Map([...new Set([...track.notes.keys(), ...face.notes])].map((note) =>
    [note, mix(track.notes.get(note) ?? 0, face.notes.includes(note) ? 1 : 0, NOTE_MS)]));
  const box = face.box.map((value, side) => nearer(track.box[side], value, now - track.seenAt));
  return { ...track, box, probabilities, notes, latest: face.probabilities,
           history: after(track, probabilities, now), seenAt: now, misses: 0 };
}

// boxes must keep up with the face, so only what trembles is taken off
function nearer(old, fresh, elapsedMs) {
  return old + (1 - Math.exp(-elapsedMs / BOX_MS)) * (fresh - old);
}

// an answer in words, as emotion/faces.py puts it

export function read(track, words) {
  const ranking = Object.entries(track.probabilities).sort((one, other) => other[1] - one[1]);
  const [first, second] = [ranking[0][1], ranking[1]?.[1] ?? 0];
  const sure = first >= words.sureFrom && first - second >= words.clearMargin;
  const likely = ranking.slice(0, words.mostCandidates)
    .filter(([, value]) => value >= words.candidateShare * first).map(([name]) => name);
  const names = sure ? [ranking[0][0]] : likely;
  const shares = ranking.map(([, value]) => (value / first) ** (1 / words.agreementTemperature));
  const agreement = Math.round(10 / shares.reduce((sum, share) => sum + share));
  const shown = names.map((name) => words.classes.find((each) => each.name === name)?.label ?? name);
  return { track, ranking, sure, names, agreement, words: inWords(shown, sure) };
}

function inWords(names, sure) {
  if (sure) return names[0];
  if (names.length === 1) return `unsure: perhaps ${names[0]}`;
  return `unsure: ${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

export function percent(value) {
  if (value > 0.99) return ">99%";
  return value < 0.01 ? "<1%" : `${Math.round(100 * value)}%`;
}

// the class that rose most over the resting face; null where none rose clearly
export function mostRisen(probabilities, rest) {
  const [[name, rise]] = Object.entries(probabilities)
    .map(([each, value]) => [each, value - (rest[each] ?? 0)])
    .sort((one, other) => other[1] - one[1]);
  return rise >= CLEAR_RISE ? { name, points: Math.round(100 * rise) } : null;
}
