"""What the words of a verdict mean, each in a sentence or two for somebody who reads them for the first time."""

from __future__ import annotations

from lmsearch.status import Status

STATUS = {
    Status.OK: (
        "good",
        "The search found directions that beat random ones, and training anew confirmed it.",
        "On images that had no part in the choice, the chosen directions lose less than random ones do. Two networks that were"
        " trained anew, without favouring any direction, say the same.",
    ),
    Status.UNCONFIRMED: (
        "unsure",
        "The search found directions that beat random ones, but this was not checked with networks trained anew.",
        "The network that made the choice also judged it. A direction that was ahead early may look better there than it is.",
    ),
    Status.INDETERMINATE: (
        "unsure",
        "The search cannot tell its choice from a random one.",
        "At least one test failed. The chosen directions may still work well, but this run gives no reason to prefer them.",
    ),
    Status.NOT_TESTED: (
        "open",
        "The search chose directions, but nothing compared them with random ones.",
        "There is a choice, and no evidence for or against it.",
    ),
    Status.DIVERGED: (
        "bad",
        "The training diverged: its loss was no longer a number.",
        "Nothing was learned, so nothing can be said about scan directions.",
    ),
}  # by status: tone, verdict, what it means
SEARCH_WORDS = (
    ("scan direction", "The order in which a layer reads the image's tokens, such as row by row (h) or in windows of 2 x 2 (w2)."
     " “_flip” reads the same order backwards."),
    ("keep", "How many directions each layer keeps of all that it could use. The others are removed from the network."),
    ("worth", "How much a layer relied on a direction during the search. What was measured stands above the map."
     " Probabilities and shares of worth sum to 1 in every layer."),
    ("margin", "How clear the choice was: the last direction kept less the best one dropped, in probability, score or votes of"
     " seeds; or how much more the best other choice in the layer loses on held-out images. Near 0, both could change places."),
    ("ok", "Every test was passed, the recheck too."),
    ("unconfirmed", "Every test was passed, but the recheck was not run."),
    ("indeterminate", "The tests could not tell the choice from a random one. It is no statement that the choice is bad."),
    ("not tested", "There was nothing to compare the choice with."),
    ("recheck", "Two networks are trained anew with all directions alike. The choice must beat random choices in them too."),
    ("held-out", "Training images that the network did not learn from; choices are made or tested on them."),
)  # fmt: skip
COMPARE_WORDS = (
    ("within noise", "The interval of the difference holds zero: repeating the comparison could reverse the order."),
    (
        "95 % interval",
        "Where the true value lies, by a method that is right in 95 of 100 such experiments: with other seeds and other"
        " test images. With one seed it is about other images alone, and the luck of training comes on top.",
    ),
    ("random", "As many directions per layer, drawn at random from the same list."),
    ("hand-made", "The same directions in every layer, as people usually choose them."),
)
AUDIT_WORDS = (
    ("control", "A task with a known answer: one where a direction must be found, and one where nothing must be found."),
    ("at an equal budget", "Each way to choose directions may spend the same computing time."),
    ("noise ceiling", "The agreement that even repeated training would reach, since seeds differ."),
    ("undecided", "The numbers allow both answers, or parts are still to be run."),
)
QUICK_WORDS = (
    ("shuffle", "An order drawn at random once: it has no structure, so that losing to it means that structure does not help."),
    ("noise floor", "How far the same order comes out differently with other seeds. Smaller differences mean nothing."),
    ("control", "A task with a known answer: one where a direction does all the work, and one where none matters."),
)
SWEEP_WORDS = (
    ("trial", "One run of the task with one set of values."),
    ("pruned", "A trial that was stopped early, because others were clearly better by then."),
)


def status_of(text: object) -> Status | None:
    """Return the status that a text names, None for another one."""
    return Status(str(text)) if str(text) in set(Status) else None
