//! The number an answer ends with.

/// The last number of a text: `1,234.50` and `-7` are numbers, the `4` of `3-4` has no sign.
///
/// ```
/// use drafthorse::quality::last_number;
/// assert_eq!(last_number("2 + 3 = 5 dollars, or $1,205.50."), Some(1205.5));
/// assert_eq!(last_number("none"), None);
/// ```
pub fn last_number(text: &str) -> Option<f64> {
    let text: Vec<char> = text.chars().collect();
    let end = text.iter().rposition(char::is_ascii_digit)? + 1;
    let mut start = end - 1;
    while start > 0 && belongs(&text, start - 1, end) {
        start -= 1;
    }
    // A sign stands alone, or behind something that is no number.
    let before = |at: usize| at.checked_sub(1).map(|at| text[at]);
    let signed = matches!(before(start), Some('-' | '\u{2212}'))
        && !before(start - 1).is_some_and(|c| c.is_alphanumeric() || c == ')');
    let digits: String = text[start..end].iter().filter(|c| **c != ',').collect();
    let value: f64 = digits.parse().ok()?;
    Some(if signed { -value } else { value })
}

/// Whether the character before a number belongs to it: a digit, a point that is the only one, or a comma
/// with three digits behind it.
fn belongs(text: &[char], at: usize, end: usize) -> bool {
    let number = &text[at + 1..end];
    let digit_before = at > 0 && text[at - 1].is_ascii_digit();
    match text[at] {
        digit if digit.is_ascii_digit() => true,
        '.' => !number.contains(&'.') && !number.contains(&',') && digits(number) == number.len(),
        ',' => digit_before && digits(number) == 3,
        _ => false,
    }
}

/// How many digits come first.
fn digits(text: &[char]) -> usize {
    text.iter().take_while(|c| c.is_ascii_digit()).count()
}

/// Whether text and reference end with the same number; false where one has none.
///
/// Source: the usual accuracy on GSM8K (Cobbe et al., 2021), whose references end with `#### 42`.
pub fn last_number_match(text: &str, reference: &str) -> bool {
    let (text, reference) = (last_number(text), last_number(reference));
    text.is_some() && text == reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let cases = [
            ("#### 42", 42.0),
            ("#### -7", -7.0),
            ("\u{2212}7", -7.0),
            ("3-4", 4.0),
            ("(3)-4", 4.0),
            ("x = -4", -4.0),
            ("-4", -4.0),
            ("1,234,567", 1_234_567.0),
            ("$1,205.50.", 1205.5),
            ("1, 234", 234.0),
            ("1,23", 23.0),
            ("12,345", 12345.0),
            ("10.", 10.0),
            (".5", 0.5),
            ("1.2.3", 2.3),
            ("18.00 dollars", 18.0),
            ("007", 7.0),
            ("50%", 50.0),
        ];
        for (text, number) in cases {
            assert_eq!(last_number(text), Some(number), "{text}");
        }
        assert_eq!((last_number(""), last_number("- , .")), (None, None));
    }

    #[test]
    fn only_the_last_number_counts() {
        assert!(last_number_match("2 * 9 = 18.0", "She has 3.\n#### 18"));
        assert!(!last_number_match("18, no 19", "#### 18"));
        assert!(!last_number_match("none", "#### 18") && !last_number_match("none", "none"));
    }
}
