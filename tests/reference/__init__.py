"""Slow, literal, float64 transcriptions of the papers' boxes, to hold the fast code against.

They share no code with potemkin and never import it. One file per paper; every one has

    run(logits, x, labels, eps, steps, step_size, *, start=None, box=(0.0, 1.0), targets=None, ...) -> Trace

`logits` is any callable from (B, ...) float64 to (B, K); `eps` and `step_size` are numbers or one number per row;
`start` is the first point, `x` itself when left out; nothing here draws a random number.

`training` is of another kind: losses and inner searches of adversarial training, in numpy with hand-written gradients.
"""
