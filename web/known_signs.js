// The signs that can be recognised, as a person looks for them: by theme, by word, the surest first.
//
// known_signs.py does the same for the demo, from the same themes.json.

const FEW = 12; // so many can be looked through: no themes, no search, none to try first
const FIRST = 10; // to try first
const FEWEST = 3; // of a theme: fewer stand with the other signs
const TAUGHT = "Taught";
const OTHER = "Other signs";
const WEAK = [2, 3]; // a sign that is read right less often is weak
const Z = 1.96; // of a 95 % interval
const PART = 3; // letters: fewer name no theme, no part of a word, and are no word without its ending
const ENDINGS = [["s", ""], ["es", ""], ["ies", "y"], ["ied", "y"], ["ed", ""], ["ing", ""]];

// Names of the lists to practise by.
export const SUREST = "list: surest";
export const WEAKEST = "list: weak";
export const themeList = (name) => `theme: ${name}`;

/** Without accents, case and spaces at the ends. */
const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim().replace(/\s+/g, " ");
const inOrder = (glosses) => [...glosses].sort((a, b) => a.localeCompare(b));

/** Lower end of the Wilson interval: 14 of 15 is surer than 3 of 3. */
function sureness([right, clips]) {
  const share = right / clips;
  const spread = Z * Math.sqrt((share * (1 - share)) / clips + (Z / (2 * clips)) ** 2);
  return (share + Z ** 2 / (2 * clips) - spread) / (1 + Z ** 2 / clips);
}

const isScore = (score) =>
  Array.isArray(score) && score.length === 2 && score.every(Number.isInteger) && 0 <= score[0] && score[0] <= score[1] && score[1] > 0;
const isWeak = ([right, clips]) => WEAK[1] * right < WEAK[0] * clips;

/** The card's `data.same_sign`, as far as it is one: gloss -> the other words for its sign. */
function sameSign(card) {
  const isWords = (words) => Array.isArray(words) && words.every((word) => typeof word === "string");
  return new Map(Object.entries(card.data?.same_sign ?? {}).filter(([, words]) => isWords(words)));
}

export class KnownSigns {
  #scores = new Map(); // gloss -> [right, clips] of people it had not met
  #names = new Map(); // gloss -> the words by which it is found
  #same; // gloss -> other words for its sign
  #synonyms;

  /**
   * `card` is the model's with its glosses; its `metrics.cross_validation.per_gloss` and
   * `data.same_sign` may be missing. `themes` and `synonyms` are those of themes.json; `taught` are
   * the glosses that were taught.
   */
  constructor(card, { themes, synonyms }, taught) {
    this.#same = sameSign(card);
    const same = [...this.#same].map(([gloss, words]) => [gloss, ...words].map(fold));
    this.#synonyms = [...synonyms, ...same];
    const scores = card.metrics?.cross_validation?.per_gloss ?? {};
    for (const gloss of card.glosses) if (isScore(scores[gloss])) this.#scores.set(gloss, scores[gloss]);
    this.glosses = inOrder(new Set([...card.glosses, ...taught]));
    for (const gloss of this.glosses) {
      const name = fold(gloss);
      this.#names.set(gloss, [name, ...this.#alike(name)]);
    }
    this.groups = this.few ? [{ name: "", glosses: this.glosses }] : this.#themed(themes, new Set(card.glosses));
  }

  get few() {
    return this.glosses.length < FEW;
  }

  /** The signs to try first: those that are surest to be recognised. */
  get surest() {
    if (this.few) return [];
    const known = [...this.#scores].filter(([, score]) => !isWeak(score));
    return known.sort((a, b) => sureness(b[1]) - sureness(a[1]) || a[0].localeCompare(b[0])).slice(0, FIRST).map(([gloss]) => gloss);
  }

  get weak() {
    return this.glosses.filter((gloss) => this.isWeak(gloss));
  }

  isWeak(gloss) {
    const score = this.#scores.get(gloss);
    return score !== undefined && isWeak(score);
  }

  /** "2 of 7", or nothing where it was not measured. */
  score(gloss) {
    return this.#scores.get(gloss)?.join(" of ") ?? "";
  }

  /** The other words for its sign: a sign of city is one of town. */
  also(gloss) {
    return this.#same.get(gloss) ?? [];
  }

  /** The glosses that `text`, or else the word that it is a form of, stands for. */
  find(text) {
    const sought = fold(text);
    const words = [sought];
    for (const [end, instead] of ENDINGS) {
      if (sought.endsWith(end) && sought.length >= end.length + PART) words.push(sought.slice(0, -end.length) + instead);
    }
    return new Set(words.map((word) => this.#named(word)).find((found) => found.length) ?? []);
  }

  /** Glosses with a name that begins with `word`, or else of a theme that does, or else that contain it. */
  #named(word) {
    const begins = (name) => ` ${name}`.includes(` ${word}`);
    const found = this.glosses.filter((gloss) => this.#names.get(gloss).some(begins));
    if (found.length || word.length < PART) return found;
    const ofTheme = ({ name }) => [word, ...this.#alike(word)].some((one) => ` ${fold(name)}`.includes(` ${one}`));
    const themed = new Set(this.groups.filter(ofTheme).flatMap(({ glosses }) => glosses));
    if (themed.size) return this.glosses.filter((gloss) => themed.has(gloss));
    return this.glosses.filter((gloss) => this.#names.get(gloss)[0].includes(word));
  }

  /** The words that stand for the same as `word`. */
  #alike(word) {
    return this.#synonyms.filter((words) => words.includes(word)).flat();
  }

  #themed(themes, known) {
    const own = this.glosses.filter((gloss) => known.has(gloss));
    const named = Object.entries(themes).map(([name, words]) => {
      const theme = new Set(words);
      return { name, glosses: own.filter((gloss) => theme.has(fold(gloss))) };
    });
    const groups = named.filter(({ glosses }) => glosses.length >= FEWEST);
    const placed = new Set(groups.flatMap(({ glosses }) => glosses));
    const other = { name: OTHER, glosses: own.filter((gloss) => !placed.has(gloss)) };
    const taught = { name: TAUGHT, glosses: this.glosses.filter((gloss) => !known.has(gloss)) };
    return [taught, ...groups, other].filter(({ glosses }) => glosses.length);
  }
}

/** A score in words. */
export const inTries = (score) => `read right in ${score} tries by people it had not met`;
