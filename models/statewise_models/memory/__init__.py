"""How far back do models remember? Gradients through time on your data, and the recall of a bit after a delay."""
