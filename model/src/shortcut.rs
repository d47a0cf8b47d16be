//! Which of a model's own layers draft for it.

use crate::ModelError;
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// No model has more layers; what is beyond is a slip of the pen.
const MOST_LAYERS: usize = 10_000;

/// A way through a model that leaves out some of its layers, so that the model drafts for itself.
///
/// Layers are counted from 1. Names are `exit:3` (the first three layers, then the head) and `skip:2,4-6` (all but
/// these).
///
/// Source: Elhoushi et al., "`LayerSkip`", 2024 (early exit); Zhang et al., "Draft & Verify", 2024 (skipped layers).
///
/// # Example
///
/// ```
/// use drafthorse_model::Shortcut;
///
/// let shortcut: Shortcut = "skip:4-6,2".parse()?;
/// assert_eq!(shortcut.to_string(), "skip:2,4-6");
/// assert_eq!(shortcut.layers(8)?, [1, 3, 7, 8]);
/// assert!(shortcut.layers(6).is_err(), "the last layer stays");
/// # Ok::<(), drafthorse_model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shortcut {
    /// Leaves the model after this many layers.
    Exit(usize),
    /// Runs all layers but these.
    Skip(Vec<usize>),
}

impl Shortcut {
    /// The layers that are run in a model of `count` layers, in their order.
    ///
    /// # Errors
    ///
    /// No such layer, none left out, or the first or last skipped: they stay, as they read the embedding and write for
    /// the head.
    pub fn layers(&self, count: usize) -> Result<Vec<usize>, ModelError> {
        match self {
            Self::Exit(layer) => {
                if !(1..count).contains(layer) {
                    return Err(no_way(
                        self,
                        count,
                        &possible("leave after layer", 1..=count.saturating_sub(1)),
                    ));
                }
                Ok((1..=*layer).collect())
            }
            Self::Skip(skipped) => {
                let middle = 2..count;
                if skipped.is_empty() || !skipped.iter().all(|layer| middle.contains(layer)) {
                    return Err(no_way(self, count, &possible("skip", 2..=count.saturating_sub(1))));
                }
                let kept: Vec<_> = middle.filter(|layer| !skipped.contains(layer)).collect();
                Ok([&[1][..], &kept, &[count]].concat())
            }
        }
    }

    /// Every exit of a model of `count` layers.
    pub fn exits(count: usize) -> impl Iterator<Item = Self> {
        (1..count).map(Self::Exit)
    }
}

fn possible(verb: &str, layers: RangeInclusive<usize>) -> String {
    match (layers.start(), layers.end()) {
        (first, last) if first > last => "it has none to leave out".into(),
        (first, last) if first == last => format!("{verb} {first}"),
        (first, last) => format!("{verb} {first} to {last}"),
    }
}

fn no_way(shortcut: &Shortcut, count: usize, way_out: &str) -> ModelError {
    let message = format!("`{shortcut}` is impossible in a model of {count} layers; {way_out}");
    ModelError::Shortcut { message }
}

impl fmt::Display for Shortcut {
    /// Three layers or more in a row are written as a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = match self {
            Self::Exit(layer) => return write!(f, "exit:{layer}"),
            Self::Skip(skipped) => skipped,
        };
        f.write_str("skip:")?;
        for (index, row) in skipped.chunk_by(|a, b| a + 1 == *b).enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match row {
                [first, _, .., last] => write!(f, "{first}-{last}")?,
                [first, second] => write!(f, "{first},{second}")?,
                _ => write!(f, "{}", row[0])?,
            }
        }
        Ok(())
    }
}

impl FromStr for Shortcut {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let unknown = || {
            let message = format!("`{text}` names no layers; write exit:3, or skip:2,4-6");
            ModelError::Shortcut { message }
        };
        let layer = |text: &str| text.parse().ok().filter(|layer| (1..=MOST_LAYERS).contains(layer));
        match text.split_once(':') {
            Some(("exit", at)) => layer(at).map(Self::Exit).ok_or_else(unknown),
            Some(("skip", list)) => {
                let mut skipped = Vec::new();
                for part in list.split(',') {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    let (Some(first), Some(last)) = (layer(first), layer(last)) else {
                        return Err(unknown());
                    };
                    if first > last {
                        return Err(unknown());
                    }
                    skipped.extend(first..=last);
                }
                skipped.sort_unstable();
                skipped.dedup();
                Ok(Self::Skip(skipped))
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Shortcut {
        text.parse().unwrap()
    }

    #[test]
    fn names_say_which_layers_run() {
        for (text, count, layers) in [
            ("exit:1", 2, vec![1]),
            ("exit:3", 6, vec![1, 2, 3]),
            ("skip:2", 3, vec![1, 3]),
            ("skip:2,3", 6, vec![1, 4, 5, 6]),
            ("skip:2-5", 6, vec![1, 6]),
            ("skip:2,4-6", 9, vec![1, 3, 7, 8, 9]),
        ] {
            assert_eq!(parse(text).layers(count).unwrap(), layers, "{text}");
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("skip:3,2,2-3,5,4"), Shortcut::Skip(vec![2, 3, 4, 5]));
        assert_eq!(Shortcut::exits(3).collect::<Vec<_>>(), [Shortcut::Exit(1), Shortcut::Exit(2)]);
    }

    #[test]
    fn what_names_no_layers_is_refused() {
        for text in [
            "",
            "exit",
            "exit:",
            "exit:0",
            "exit:-1",
            "exit:x",
            "exit:2,3",
            "exit:99999",
            "skip:",
            "skip:0",
            "skip:2,",
            "skip:,2",
            "skip:4-2",
            "skip:2-",
            "skip:-2",
            "skip:2-3-4",
            "skip:2-99999999999999",
            "Exit:2",
            "layers:2",
        ] {
            let error = text.parse::<Shortcut>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` names no layers; write exit:3, or skip:2,4-6"));
        }
    }

    #[test]
    fn what_is_impossible_in_a_model_names_both_and_the_way_out() {
        let error = |text: &str, count| parse(text).layers(count).unwrap_err().to_string();
        assert_eq!(
            error("exit:6", 6),
            "`exit:6` is impossible in a model of 6 layers; leave after layer 1 to 5"
        );
        assert_eq!(error("exit:2", 2), "`exit:2` is impossible in a model of 2 layers; leave after layer 1");
        assert_eq!(
            error("exit:1", 1),
            "`exit:1` is impossible in a model of 1 layers; it has none to leave out"
        );
        for text in ["skip:1", "skip:6", "skip:7", "skip:1-6", "skip:5-7"] {
            let expected = format!("`{text}` is impossible in a model of 6 layers; skip 2 to 5");
            assert_eq!(error(text, 6), expected);
        }
        assert_eq!(
            error("skip:2", 2),
            "`skip:2` is impossible in a model of 2 layers; it has none to leave out"
        );
        assert!(Shortcut::Skip(Vec::new()).layers(6).is_err());
        assert!(Shortcut::Exit(0).layers(6).is_err());
        assert!(Shortcut::Exit(0).layers(0).is_err() && Shortcut::Skip(vec![2]).layers(0).is_err());
    }

    proptest! {
        #[test]
        fn names_go_both_ways(skipped in prop::collection::btree_set(2usize..40, 1..20)) {
            let shortcut = Shortcut::Skip(skipped.iter().copied().collect());
            prop_assert_eq!(parse(&shortcut.to_string()), shortcut.clone());
            let layers = shortcut.layers(40).unwrap();
            prop_assert_eq!(layers.len() + skipped.len(), 40);
            prop_assert!(layers.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(!layers.iter().any(|layer| skipped.contains(layer)));
        }
    }
}
