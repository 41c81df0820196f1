"""How the published SIM code makes its assignment hard, pixel by pixel.

Gumbel noise is added to the shares of the prototypes themselves, as if they were logits: the
largest sum is then a draw from the softmax of the shares. Even a pixel all of whose share is one
of K prototypes' is drawn there with probability e / (e + K - 1) alone. The logarithms of the shares
would be drawn from the shares.
"""

import math


def probabilities(logits):
    """Of each entry to be the largest once Gumbel noise is added."""
    largest = max(logits)
    weights = [math.exp(one - largest) for one in logits]
    return [weight / sum(weights) for weight in weights]


def largest_with_noise(logits, random):
    """The place of the largest logit once Gumbel noise of a `random.Random` is added."""
    noisy = [one - math.log(-math.log(1 - random.random())) for one in logits]
    return noisy.index(max(noisy))
