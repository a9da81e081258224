"""How far back models remember, as one picture."""

COLOURS = {"elman": "#c23b22", "lstm": "#1b6ca8", "gru": "#e0a100"}
