//! ROUGE: agreement of words.

use super::{chrf::matches, harmonic};

/// ROUGE-N of a text against a reference, the F1 of their n-grams of words, 0 to 1.
///
/// Words are runs of letters and digits in lower case, without stemming; a text of fewer words than `order`
/// has 0.
///
/// Source: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004; the values are those of
/// `rouge_score` 0.1.2 for ASCII texts (other letters are separators there, and letters here).
pub fn rouge_n(text: &str, reference: &str, order: usize) -> f64 {
    let (text, reference) = (words(text), words(reference));
    if order == 0 || text.len() < order || reference.len() < order {
        return 0.0;
    }
    let matches = matches(&text, &reference, order) as f64;
    harmonic(matches / (text.len() + 1 - order) as f64, matches / (reference.len() + 1 - order) as f64)
}

/// ROUGE-L of a text against a reference, the F1 of their longest common subsequence of words, 0 to 1.
///
/// Source: as [`rouge_n`]; each text is one sequence, as `rougeL` of `rouge_score`.
pub fn rouge_l(text: &str, reference: &str) -> f64 {
    let (text, reference) = (words(text), words(reference));
    if text.is_empty() || reference.is_empty() {
        return 0.0;
    }
    let common = longest_common_subsequence(&text, &reference) as f64;
    harmonic(common / text.len() as f64, common / reference.len() as f64)
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_rouge_score() {
        let cases = [
            (
                "risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists .",
                "risk assessment has to be undertaken by those who are qualified and expert in that area - that is the scientists .",
                [0.564_102_564_102_564_1, 0.324_324_324_324_324_3, 0.564_102_564_102_564_1],
            ),
            (
                "The cat sat on the mat.",
                "A cat was sitting on the mat, the cat.",
                [2.0 / 3.0, 6.0 / 13.0, 8.0 / 15.0],
            ),
            // The words are the same in another order: 3 of 4 in sequence, no pair.
            ("police the killed gunman", "police killed the gunman", [1.0, 0.0, 0.75]),
            ("The the the 3-4", "the 3 4 the", [8.0 / 9.0, 4.0 / 7.0, 2.0 / 3.0]),
            ("", "a", [0.0, 0.0, 0.0]),
            ("a", "", [0.0, 0.0, 0.0]),
        ];
        for (text, reference, expected) in cases {
            let values = [rouge_n(text, reference, 1), rouge_n(text, reference, 2), rouge_l(text, reference)];
            for (value, expected) in values.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{text}: {values:?}");
            }
        }
    }

    #[test]
    fn letters_of_all_alphabets_make_words() {
        assert_eq!(rouge_n("Größe über", "größe, ÜBER!", 2), 1.0);
        assert_eq!(rouge_n("größe", "größer", 1), 0.0);
    }
}
