"""The words that are explained where they stand."""

from medlat.report.glossary import TERMS, explained, terms_in


def test_the_first_mention_is_explained_and_everything_is_escaped():
    text = explained("R² < 0.5, of 3 logits; R² again & a <b>flip</b>")
    assert text == (
        f'<abbr title="{TERMS["R²"]}">R²</abbr> &lt; 0.5, of 3 <abbr title="{TERMS["logit"]}">logits</abbr>; R² again '
        f'&amp; a &lt;b&gt;<abbr title="{TERMS["flip"]}">flip</abbr>&lt;/b&gt;'
    )


def test_words_inside_others_are_not_explained():
    assert explained("encoders, but no codebook, flipping, or FIDelity") == (
        f'<abbr title="{TERMS["encoder"]}">encoders</abbr>, but no codebook, flipping, or FIDelity'
    )


def test_the_longest_term_wins():
    assert terms_in(["permuted labels", "a controls; controls", "sliced Wasserstein, 64²"]) == [
        (term, TERMS[term]) for term in ("control", "permuted labels", "sliced Wasserstein")
    ]


def test_no_term_is_explained_by_a_quote_that_would_end_its_title():
    assert not any('"' in meaning for meaning in TERMS.values())
