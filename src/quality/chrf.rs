//! chrF: agreement of character n-grams.

use std::collections::HashMap;

/// The longest n-gram.
const ORDER: usize = 6;
/// How much more recall counts than precision.
const BETA: f64 = 2.0;

/// chrF2 of a text against a reference, 0 to 100: character n-grams up to 6, beta 2, white space left out,
/// case kept, averaged over the orders that both texts are long enough for.
///
/// Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015; the values are those of
/// sacrebleu 2.6 (`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`).
pub fn chrf(text: &str, reference: &str) -> f64 {
    let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
    let (text, reference) = (letters(text), letters(reference));
    let orders = ORDER.min(text.len()).min(reference.len());
    if orders == 0 {
        return 0.0;
    }
    let (mut precision, mut recall) = (0.0, 0.0);
    for order in 1..=orders {
        let matches = matches(&text, &reference, order) as f64;
        precision += matches / (text.len() + 1 - order) as f64;
        recall += matches / (reference.len() + 1 - order) as f64;
    }
    let (precision, recall) = (precision / orders as f64, recall / orders as f64);
    if precision + recall == 0.0 {
        return 0.0;
    }
    let factor = BETA * BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// How many n-grams of `a` are also in `b`, each at most as often as it is there.
pub(super) fn matches<T: Eq + std::hash::Hash>(a: &[T], b: &[T], order: usize) -> usize {
    let mut there: HashMap<&[T], usize> = HashMap::new();
    for gram in b.windows(order) {
        *there.entry(gram).or_default() += 1;
    }
    let mut take = |gram: &[T]| match there.get_mut(gram) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    a.windows(order).filter(|gram| take(gram)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_sacrebleu() {
        let cases = [
            ("abcdefg", "hijklmnop", 0.0),
            ("", "b", 0.0),
            ("b", "", 0.0),
            ("aa", "ab", 25.0),
            ("a", "a", 100.0),
            ("a b c", "abc", 100.0),
            (
                "risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists .",
                "risk assessment has to be undertaken by those who are qualified and expert in that area - that is the scientists .",
                63.431_653_681_172_67,
            ),
            (
                " Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. ",
                "Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich.",
                64.818_123_726_097,
            ),
            ("The cat sat on the mat.", "A cat was sitting on the mat, the cat.", 35.414_620_876_848_12),
        ];
        for (text, reference, expected) in cases {
            let value = chrf(text, reference);
            assert!((value - expected).abs() < 1e-9, "{text} against {reference}: {value}, not {expected}");
        }
    }

    #[test]
    fn recall_counts_more_than_precision() {
        assert!(chrf("abcdef", "abc") > chrf("abc", "abcdef"));
    }
}
