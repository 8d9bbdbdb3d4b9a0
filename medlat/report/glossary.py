"""The words of the page that not every reader knows: each is explained where it stands, and once more at the end."""

import re
from collections.abc import Iterable

from markupsafe import Markup, escape

TERMS = {  # as they stand in texts -> what they mean
    "σ": "a step along a direction: one standard deviation of real images' codes along it; few of them lie beyond 3",
    "AUC": "how well predictions rank the two classes: 0.5 by chance, 1 at best",
    "Brier score": "mean squared error of predicted probabilities; 0 at best",
    "calibration error": "how far predicted probabilities are from how often they come true; 0 at best",
    "code": "the numbers from which the generator draws an image",
    "control": "the same done with something that knows nothing; a result counts by how far it is above it",
    "counterfactual": "the image, changed until the classifier says otherwise",
    "coverage": "how many of the quantities some direction changes by itself",
    "DCI": "whether each direction tells of one factor, and each factor of one direction; 1 at best",
    "drift": "how far the prediction moves by the image's way through the generator alone",
    "editing range": "how far a direction may be followed before images are unlike any real one",
    "encoder": "the network that gives a real image its code",
    "evidence": "how much of what a direction changes is one thing, and the same thing in all patients",
    "family-wise": "over everything that the page tries, not for one of it alone",
    "flip": "the prediction crosses the threshold",
    "floor": "the same distance between two halves of real images: no generator can be expected to be nearer",
    "FID": "how far the features of samples are from those of real images (Fréchet distance); 0 at best",
    "Fréchet distance": "how far two sets of numbers are apart, by their means and how they vary together; 0 at best",
    "generator": "the network that draws images from codes",
    "Grad-CAM": "where the classifier looks, by its last feature maps and their gradients",
    "inversion": "a real image put into the latent space: the code that gives it back",
    "KID": "how far the features of samples are from those of real images, without a bias of few; 0 at best",
    "latent space": "all codes that the generator can draw an image from",
    "linear": "the method that fits a straight line from codes to predictions (Schutte et al. 2021)",
    "logit": "the prediction before it is a probability: 0 is 0.5, 2.2 is 0.9",
    "MIG": "whether one direction tells more of a factor than the next best does; 1 at best",
    "MS-SSIM": "how alike two images look, over several scales; 1 is the same",
    "occlusion": "where the prediction changes when a patch of the image is covered",
    "permuted labels": "a control: the same classifier, trained on the labels in random order",
    "PSNR": "how near an image comes back, in decibels: 20 is blurred, 40 is hardly told apart",
    "purity": "the share of all that a direction changes that falls on one quantity",
    "random directions": "a control: directions drawn by chance",
    "realism": "how far counterfactuals are from real images of the side that was asked for: 1 is as near as real ones",
    "relevance": "what in the image speaks for the class, red, or against it, blue",
    "R²": "how much of what varies a straight line explains; 1 is all",
    "SAP": "how much better the best direction tells a factor than the second best",
    "sliced Wasserstein": "how far patches of samples are from those of real images; 0 at best",
    "Spearman": "whether two things rise together, by ranks: 1 always, 0 not at all",
    "threshold": "the prediction from which on the classifier says yes",
}
_WORDS = sorted(TERMS, key=len, reverse=True)
_FOUND = re.compile("|".join(rf"(?<![\w-]){re.escape(term)}(?:s)?(?![\w-])" for term in _WORDS))


def explained(text: str) -> Markup:
    """The text, escaped, with the first mention of each term underlined and its meaning shown on hover."""
    seen: set[str] = set()
    parts, end = [], 0
    for match in _FOUND.finditer(text):
        term = _term(match[0])
        if term in seen:
            continue
        seen.add(term)
        parts += [escape(text[end : match.start()]), Markup('<abbr title="{}">{}</abbr>').format(TERMS[term], match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def terms_in(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The terms that occur, in the order of the alphabet, each with its meaning."""
    found = {_term(match[0]) for text in texts for match in _FOUND.finditer(text)}
    return [(term, TERMS[term]) for term in sorted(found, key=str.casefold)]


def _term(word: str) -> str:
    return word if word in TERMS else word.removesuffix("s")
