//! How good a text is: measures against a reference, and the Pareto front of cost and quality.
//!
//! ```
//! use drafthorse::quality;
//!
//! assert!(quality::exact_match("The answer: 42.", "answer 42"));
//! assert!(quality::last_number_match("3 * 4 = 12, so $12.00", "#### 12"));
//! assert_eq!(quality::chrf("the same", "the same"), 100.0);
//! assert_eq!(quality::rouge_n("a b c", "a b d", 2), 0.5);
//! ```

mod chrf;
mod number;
mod pareto;
mod rouge;

pub use chrf::chrf;
pub use number::{last_number, last_number_match};
pub use pareto::front;
pub use rouge::{rouge_l, rouge_n};

/// Whether two texts are the same once case, punctuation, English articles and the amount of white space are
/// left aside.
///
/// Source: the normalisation of `SQuAD` (Rajpurkar et al., 2016) and its evaluation script.
pub fn exact_match(text: &str, reference: &str) -> bool {
    normalized(text) == normalized(reference)
}

fn normalized(text: &str) -> Vec<String> {
    let kept: String =
        text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation() && !is_quote(*c)).collect();
    let words = kept.split_whitespace().filter(|word| !["a", "an", "the"].contains(word));
    words.map(str::to_owned).collect()
}

/// Typographic quotation marks, dashes and the like.
fn is_quote(c: char) -> bool {
    ('\u{2010}'..='\u{2027}').contains(&c)
}

/// 2ab / (a + b), 0 where both are.
fn harmonic(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_match_leaves_form_aside() {
        assert!(exact_match("  The  Eiffel tower!\n", "eiffel Tower"));
        assert!(exact_match("don\u{2019}t", "don't") && exact_match("", "the"));
        assert!(!exact_match("Eiffel tower", "the tower"));
        assert!(!exact_match("12", "1.3"));
    }
}
