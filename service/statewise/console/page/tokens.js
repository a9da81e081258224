// Text as a model reads it: token by token, with what it thought of each.

/** Returns the tokens of a text: its characters, or the bytes of its UTF-8 form. */
export function tokensOf(text, vocabulary) {
  return vocabulary.bytes ? [...new TextEncoder().encode(text)] : [...text];
}

/** Returns a token as it is shown. */
export function shown(token, vocabulary) {
  if (vocabulary.bytes) return token > 32 && token < 127 ? String.fromCharCode(token) : token === 32 ? "␣" : token.toString(16).padStart(2, "0");
  return { " ": "␣", "\n": "¶", "\t": "⇥" }[token] ?? token;
}

/** Returns the token of an id. */
export function tokenOf(id, vocabulary) {
  return vocabulary.bytes ? id : vocabulary.characters[id];
}

/** Returns the shares that logits stand for. */
export function shares(logits) {
  const most = Math.max(...logits);
  const grown = logits.map((logit) => Math.exp(logit - most));
  const sum = grown.reduce((total, value) => total + value, 0);
  return grown.map((value) => value / sum);
}

/** Returns how surprising the token of an id was, in bits, by the logits before it. */
export function bits(logits, id) {
  return -Math.log2(Math.max(shares(logits)[id], 1e-12));
}

/** Returns a text that a model can read, to begin with. */
export function sample(vocabulary) {
  const wish = "The for statement is used to iterate over the elements of a sequence, such as a string, a list or a tuple.";
  if (vocabulary.bytes) return wish;
  const known = new Set(vocabulary.characters);
  const kept = [...wish].filter((character) => known.has(character)).join("");
  return kept.length >= 24 ? kept : vocabulary.characters.join("").repeat(6).slice(0, 48);
}
