//! Stop strings in a text that comes in pieces.

/// Finds the first of several strings in a growing text and holds back what might become one.
#[derive(Debug)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    held: String,
}

/// What a piece of text leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// Text that is certainly not part of a stop string.
    pub(crate) text: String,
    /// The stop string found.
    pub(crate) stop: Option<String>,
}

impl StopStrings {
    pub(crate) fn new(strings: Vec<String>) -> Self {
        Self { strings, held: String::new() }
    }

    /// Takes the next piece of the text.
    pub(crate) fn push(&mut self, piece: &str) -> Released {
        self.held.push_str(piece);
        let found = self.strings.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at, stop)));
        // The one that ends first, as if the text came letter by letter: where pieces end must not matter.
        // Of those that end together, the longest.
        if let Some((at, stop)) = found.min_by_key(|(at, stop)| (at + stop.len(), *at)) {
            let stop = stop.clone();
            self.held.truncate(at);
            return Released { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let keep = self.strings.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Released { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// What is held back, when no text follows.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0 && at <= text.len());
    beginnings.filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut matcher = StopStrings::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let released = matcher.push(piece);
            text += &released.text;
            if released.stop.is_some() {
                return (text, released.stop);
            }
        }
        (text + &matcher.finish(), None)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        assert_eq!(run(&["END"], &["abcE", "N", "Dxyz"]), ("abc".into(), Some("END".into())));
        assert_eq!(run(&["END"], &["abcE", "N", "xyz"]), ("abcENxyz".into(), None));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some("aab".into())));
        assert_eq!(run(&["né"], &["n", "é!"]), (String::new(), Some("né".into())));
    }

    #[test]
    fn the_first_to_end_wins_then_the_longest() {
        assert_eq!(run(&["cd", "b"], &["abcd"]), ("a".into(), Some("b".into())));
        assert_eq!(run(&["bc", "b"], &["abcd"]), ("a".into(), Some("b".into())));
        assert_eq!(run(&["c", "abc"], &["abcd"]), (String::new(), Some("abc".into())));
    }

    #[test]
    fn only_what_might_become_a_stop_string_is_held_back() {
        let mut matcher = StopStrings::new(vec!["xyz".into()]);
        assert_eq!(matcher.push("abx").text, "ab");
        assert_eq!(matcher.push("y").text, "");
        assert_eq!(matcher.push("w").text, "xyw");
    }

    proptest! {
        /// Nor does it matter with several strings.
        #[test]
        fn pieces_do_not_matter_to_several_strings(
            pieces in prop::collection::vec("[abc]{0,3}", 0..12),
            stops in prop::collection::vec("[abc]{1,4}", 1..4),
        ) {
            let whole = pieces.concat();
            let letters: Vec<String> = whole.chars().map(String::from).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let of = |pieces: &[String]| run(&stops, &pieces.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(of(&pieces), of(&letters));
            prop_assert_eq!(of(&pieces), of(&[whole]));
        }

        /// However the text is cut into pieces, the outcome is that of the text as a whole.
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec("[abé]{0,3}", 0..12), stop in "[abé]{1,4}") {
            let whole = pieces.concat();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (text, found) = run(&[&stop], &pieces);
            prop_assert_eq!(found.is_some(), whole.contains(&stop));
            let expected = whole.split(&stop).next().unwrap_or_default();
            prop_assert_eq!(text, expected);
        }
    }
}
