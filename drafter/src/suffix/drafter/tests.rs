use super::*;
use drafthorse_logits::{Memory, Origin, Sampler, SamplingOptions, SeededDraws};
use proptest::prelude::*;

fn propose_with(
    drafter: &mut SuffixDrafter,
    sequence: &[TokenId],
    prompt: usize,
    max: usize,
    after: bool,
) -> Proposal {
    let sampler = Sampler::new(&SamplingOptions::default()).unwrap();
    let (memory, sampler) = (Memory::off(), &sampler);
    let request =
        DraftRequest { max, score_after: after, raw: true, vocab: 100, prompt, memory, sampler, stop: None };
    let proposal = drafter.propose(sequence, &request, &mut SeededDraws::new(0, 1)).unwrap();
    assert_eq!(proposal.check(100, max), Ok(()));
    assert_eq!(drafter.confidences().len(), proposal.tokens.len());
    proposal
}

fn propose(drafter: &mut SuffixDrafter, sequence: &[TokenId], max: usize) -> Vec<TokenId> {
    propose_with(drafter, sequence, 1, max, false).tokens
}

#[test]
fn a_text_that_ended_unasked_is_remembered() {
    let mut drafter = SuffixDrafter::default();
    drafter.prepare(&[1, 2]).expect("it reads anything");
    drafter.end(&[1, 2, 7, 8, 9, 7, 8], 2);
    assert_eq!(drafter.store().texts(), [vec![7, 8, 9, 7, 8]]);
    // Once is enough.
    drafter.end(&[1, 2, 7, 8, 9, 7, 8], 2);
    assert_eq!(drafter.store().texts().concat().len(), 5);
}

#[test]
fn the_budget_grows_with_the_match() {
    let mut drafter = SuffixDrafter::default();
    assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1], 8), [2]);
    assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2], 8), [3, 4]);
    assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 8), [4, 5, 6]);
    assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 2), [4, 5]);
    assert!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 7], 8).is_empty());
    let options = SuffixOptions { factor: 2.0, offset: 1.0, ..SuffixOptions::default() };
    let mut drafter = SuffixDrafter::default().with_options(options).unwrap();
    assert_eq!(propose(&mut drafter, &[1, 2, 3, 4, 5, 6, 9, 1], 8), [2, 3, 4]);
}

/// After 1 came 2 twice and 3 once; a path less probable than the least is cut.
#[test]
fn the_most_frequent_wins_and_shares_are_its_confidence() {
    let sequence = [1, 2, 5, 1, 3, 6, 1, 2, 7, 1];
    let mut drafter = SuffixDrafter::default();
    assert_eq!(propose(&mut drafter, &sequence, 4), [2]);
    assert!((drafter.confidences()[0] - 2.0 / 3.0).abs() < 1e-12);
    let options = SuffixOptions { min_probability: 0.7, ..SuffixOptions::default() };
    let mut drafter = SuffixDrafter::default().with_options(options).unwrap();
    assert!(propose(&mut drafter, &sequence, 4).is_empty());
}

#[test]
fn a_repetition_is_continued_beyond_its_end() {
    let mut drafter = SuffixDrafter::default();
    let sequence = [7, 8, 9].repeat(5);
    assert_eq!(propose(&mut drafter, &sequence, 10), [7, 8, 9, 7, 8, 9, 7, 8, 9, 7]);
}

#[test]
fn the_position_after_the_proposal_is_scored_where_that_is_asked() {
    let mut drafter = SuffixDrafter::default();
    let sequence = [7, 8, 9].repeat(5);
    let proposal = propose_with(&mut drafter, &sequence, 1, 2, true);
    let rows: Vec<_> = proposal.scores.iter().map(|row| row.probs().as_point()).collect();
    assert_eq!((proposal.tokens, rows), (vec![7, 8], vec![Some(7), Some(8), Some(9)]));
    let proposal = propose_with(&mut drafter, &sequence, 1, 0, true);
    assert_eq!((proposal.tokens.len(), proposal.scores[0].probs().as_point()), (0, Some(7)));
}

#[test]
fn earlier_texts_are_drafted_from_by_all_who_share_the_store() {
    let store: Arc<SuffixStore> = Arc::default();
    let mut first = SuffixDrafter::new(store.clone());
    let mut second = SuffixDrafter::new(store.clone());
    propose_with(&mut first, &[50, 51], 2, 4, false);
    propose_with(&mut first, &[50, 51, 1, 2, 3, 4, 5, 6], 2, 4, false);
    assert!(propose(&mut second, &[60, 1, 2], 4).is_empty(), "the text has not ended");
    // Another text begins.
    propose_with(&mut first, &[52, 53], 2, 4, false);
    assert_eq!(store.texts(), [vec![1, 2, 3, 4, 5, 6]], "the prompt is not kept");
    assert_eq!(propose(&mut second, &[60, 1, 2], 4), [3, 4], "also within a text");
    // The other one is dropped before its text ends.
    propose_with(&mut second, &[60, 1, 2, 3, 9], 1, 4, false);
    drop(second);
    assert_eq!(store.texts().len(), 2);
    // What is refused by the expert's vocabulary is not proposed.
    store.add(&[70, 71, 72, 200, 70, 71]);
    assert_eq!(propose(&mut first, &[52, 53, 70, 71, 72], 4), Vec::<TokenId>::new());
}

#[test]
fn what_is_not_to_be_learnt_is_not() {
    let options = SuffixOptions { learn: false, ..SuffixOptions::default() };
    let store: Arc<SuffixStore> = Arc::default();
    let mut drafter = SuffixDrafter::new(store.clone()).with_options(options).unwrap();
    propose(&mut drafter, &[1, 2, 3], 4);
    drafter.observe(&Verdict { accepted: 0, next: 4, origin: Origin::Bonus });
    drafter.end_text();
    assert_eq!(store.memory().tokens, 0);
    let options = SuffixOptions { keep_prompts: true, ..SuffixOptions::default() };
    let mut drafter = SuffixDrafter::new(store.clone()).with_options(options).unwrap();
    propose_with(&mut drafter, &[1, 2, 3], 3, 4, false);
    drafter.observe(&Verdict { accepted: 0, next: 4, origin: Origin::Bonus });
    drafter.end_text();
    assert_eq!(store.texts(), [vec![1, 2, 3, 4]]);
    assert!(drafter.memory().held <= drafter.memory().bound);
}

#[test]
fn impossible_options_are_refused() {
    let with = |options| SuffixDrafter::default().with_options(options).unwrap_err().to_string();
    let default = SuffixOptions::default();
    assert_eq!(
        with(SuffixOptions { min_probability: 2.0, ..default }),
        "min probability 2 is out of range: 0 to 1"
    );
    assert!(with(SuffixOptions { factor: f64::NAN, ..default }).contains("factor NaN"));
    assert!(with(SuffixOptions { offset: f64::INFINITY, ..default }).contains("offset inf"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Going on with a text gives what a drafter says that reads it at once, whatever the store.
    #[test]
    fn reading_step_by_step_makes_no_difference(
        past in prop::collection::vec(prop::collection::vec(0u32..3, 0..30), 0..4),
        text in prop::collection::vec(0u32..3, 1..80), more in prop::collection::vec(0u32..3, 0..30)
    ) {
        let store: Arc<SuffixStore> = Arc::default();
        for text in &past {
            store.add(text);
        }
        let mut stepwise = SuffixDrafter::new(store.clone());
        for end in 1..=text.len() {
            if end == text.len() / 2 {
                store.add(&more);
            }
            let mut fresh = SuffixDrafter::new(store.clone());
            fresh.options.learn = false;
            prop_assert_eq!(propose(&mut stepwise, &text[..end], 5), propose(&mut fresh, &text[..end], 5));
            prop_assert_eq!(stepwise.confidences(), fresh.confidences());
        }
    }

    /// Neither does taking tokens back.
    #[test]
    fn what_is_taken_back_leaves_nothing(
        text in prop::collection::vec(0u32..3, 2..80), wrong in prop::collection::vec(0u32..3, 1..100)
    ) {
        let mut drafter = SuffixDrafter::default();
        propose(&mut drafter, &text, 5);
        propose(&mut drafter, &[&text[..], &wrong].concat(), 5);
        let mut fresh = SuffixDrafter::default();
        // Where it takes more back than a text can, it is another text, and this one was learnt.
        if wrong.len() <= TAKEN_BACK {
            prop_assert_eq!(propose(&mut drafter, &text, 5), propose(&mut fresh, &text, 5));
        }
    }

    /// A tree has its parents first, distinct children, and is worth no less than the path.
    #[test]
    fn trees_are_well_formed(text in prop::collection::vec(0u32..4, 1..60), max in 0usize..12) {
        let mut drafter = SuffixDrafter::default();
        let tree = drafter.branches(&text, 1, max);
        prop_assert!(tree.len() <= max);
        for (at, branch) in tree.iter().enumerate() {
            let above = branch.parent.map_or(1.0, |parent| tree[parent].probability);
            prop_assert!(branch.parent.is_none_or(|parent| parent < at) && branch.probability <= above);
            let twins = tree[..at].iter().filter(|b| b.parent == branch.parent && b.token == branch.token);
            prop_assert_eq!(twins.count(), 0);
            prop_assert!(at == 0 || branch.probability <= tree[at - 1].probability);
        }
        let path = drafter.path(&text, 1, max);
        let worth: f64 = tree.iter().map(|branch| branch.probability).sum();
        prop_assert!(worth >= path.score - 1e-12, "{} and {}", worth, path.score);
    }
}
