"""The Open Inference Protocol v2 as Triton speaks it, over the same sessions as the native protocol.

A request is read (`parameters`, `tensors`, `requests`), put in line with the others of its sequence (`sequences`), and asked of the
host as a step; `streams` and `calls` hold who asked (`asking`), and `replies` makes the answer. `problems` says what is wrong in
Triton's words, `descriptions` what there is. A sequence is a session whose id is made of the model's name and the sequence's own
(`requests.session_id`).
"""
