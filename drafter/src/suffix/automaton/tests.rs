use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

type Counts = HashMap<Vec<TokenId>, (u32, HashMap<TokenId, u32>)>;

/// How often each run stands in the texts, and what follows it, by hand.
fn by_hand(texts: &[Vec<TokenId>]) -> Counts {
    let mut counts = Counts::new();
    for text in texts {
        for end in 1..=text.len() {
            for start in end.saturating_sub(DEPTH as usize)..end {
                let entry = counts.entry(text[start..end].to_vec()).or_default();
                entry.0 += 1;
                if let Some(&next) = text.get(end) {
                    *entry.1.entry(next).or_default() += 1;
                }
            }
        }
    }
    counts
}

fn place_of(automaton: &Automaton, run: &[TokenId]) -> Place {
    Place::default().read(automaton, run)
}

fn check(automaton: &Automaton, texts: &[Vec<TokenId>]) {
    for (run, (count, followers)) in by_hand(texts) {
        let place = place_of(automaton, &run);
        assert_eq!((place.len as usize, automaton.occurrences(place)), (run.len(), count), "{run:?}");
        if run.len() == DEPTH as usize {
            continue;
        }
        let total = f64::from(followers.values().sum::<u32>());
        let shares: HashMap<_, _> = automaton.all(place.state).map(|next| (next.token, next.share)).collect();
        let wanted = followers.iter().map(|(&token, &n)| (token, f64::from(n) / total)).collect();
        assert_eq!(shares, wanted, "after {run:?}");
        let best = automaton.best(place.state).map(|next| next.share);
        assert_eq!(best, followers.values().max().map(|&n| f64::from(n) / total), "after {run:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn runs_are_counted_as_by_hand(
        texts in prop::collection::vec(prop::collection::vec(0u32..3, 0..40), 1..4)
    ) {
        let mut automaton = Automaton::default();
        for text in &texts {
            automaton.begin();
            automaton.extend(text);
        }
        check(&automaton, &texts);
    }

    /// Where runs are cut: a text that repeats itself is longer than the depth.
    #[test]
    fn long_runs_are_counted_up_to_the_depth(
        piece in prop::collection::vec(0u32..3, 1..50), times in 1usize..6, tail in prop::collection::vec(0u32..3, 0..9)
    ) {
        let text = [piece.repeat(times), tail, piece].concat();
        let mut automaton = Automaton::default();
        automaton.extend(&text);
        check(&automaton, &[text]);
    }

    /// A text that is taken back and goes on otherwise is as if it had been read so.
    #[test]
    fn tokens_can_be_forgotten(
        steps in prop::collection::vec((prop::collection::vec(0u32..3, 0..90), 0usize..40), 1..6)
    ) {
        let (mut automaton, mut text, mut possible) = (Automaton::with_undo(40), vec![], 0);
        for (more, back) in steps {
            automaton.extend(&more);
            possible = 40.min(possible + more.len());
            text.extend(more);
            let back = back.min(possible);
            possible -= back;
            prop_assert!(automaton.forget(back));
            text.truncate(text.len() - back);
            let mut fresh = Automaton::default();
            fresh.extend(&text);
            prop_assert_eq!(format!("{:?}", automaton.states), format!("{:?}", fresh.states));
            prop_assert_eq!((automaton.end(), automaton.tokens), (fresh.end(), fresh.tokens));
            prop_assert_eq!(automaton.edges.len(), fresh.edges.len());
            check(&automaton, &[text.clone()]);
        }
        automaton.extend(&[1; 50]);
        prop_assert!(automaton.forget(40) && !automaton.forget(1), "no more than asked for is kept");
    }

    #[test]
    fn memory_is_linear(text in prop::collection::vec(0u32..4, 1000..3000)) {
        let mut automaton = Automaton::default();
        automaton.extend(&text);
        prop_assert!(automaton.states.len() <= 2 * text.len() && automaton.edges.spare() < 8 * text.len());
    }
}

#[test]
fn what_is_cleared_is_gone() {
    let mut automaton = Automaton::default();
    automaton.extend(&[1, 2, 1, 2]);
    automaton.clear();
    assert_eq!(place_of(&automaton, &[1]).len, 0);
    automaton.extend(&[3, 3]);
    check(&automaton, &[vec![3, 3]]);
}
