//! Scores against sums by hand, with a tokenizer of a few letters.

use super::*;
use drafthorse_model::{CachedModel, TableModel};
use proptest::prelude::*;
use std::sync::Arc;

/// Letters are tokens 1 to 4 (`a` to `d`), 0 opens every text, and `ab` is one token, 5.
fn letters(text: &str) -> Vec<TokenId> {
    let letter = |byte: u8| TokenId::from(byte - b'a') + 1;
    let mut tokens = vec![0];
    for byte in text.bytes() {
        match tokens.last() {
            Some(1) if byte == b'b' => *tokens.last_mut().expect("it has a last") = 5,
            _ => tokens.push(letter(byte)),
        }
    }
    tokens
}

fn model(seed: u64) -> Arc<TableModel> {
    Arc::new(TableModel::random(6, 2.0, seed))
}

/// The log-probability of a text from its token `from` on.
fn by_hand(model: &TableModel, text: &str, from: usize) -> f64 {
    let tokens = letters(text);
    let token = |at: usize| {
        let row = model.row(&tokens[..at]);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        f64::from(row[tokens[at] as usize]) - sum.ln()
    };
    (from..tokens.len()).map(token).sum()
}

fn ask(seed: u64, prompt: &str, labels: &[&str], with: impl Fn(&mut Question<'_>)) -> Classification {
    let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
    let mut question = Question { separator: "", ..Question::new(prompt, &labels) };
    with(&mut question);
    classify(&mut CachedModel::new(model(seed)), &|text| Ok(letters(text)), &question)
        .expect("labels that can be compared")
}

proptest! {
    /// The prompt does not end in a letter that a label could swallow: scores are sums after the prompt.
    #[test]
    fn scores_are_the_sums_by_hand(
        seed in 0u64..50, prompt in "[a-d]{0,6}[b-d]", one in "[a-d]{1,5}", two in "[a-d]{1,5}",
    ) {
        prop_assume!(one != two);
        let answer = ask(seed, &prompt, &[&one, &two], |_| {});
        prop_assert_eq!(answer.merged_tokens, 0);
        let shared = letters(&prompt).len();
        let sums = [&one, &two].map(|label| by_hand(&model(seed), &format!("{prompt}{label}"), shared));
        let whole: f64 = sums.iter().map(|sum| sum.exp()).sum();
        for (label, sum) in answer.labels.iter().zip(sums) {
            prop_assert!((label.log_prob - sum).abs() < 1e-6);
            prop_assert!((label.probability - sum.exp() / whole).abs() < 1e-6);
        }
    }
}

#[test]
fn a_token_across_the_border_counts_for_all_labels() {
    // `ca` and `b` are tokenized as `c`, `ab`: the prompt's `a` belongs to what is scored, for `d` too.
    let answer = ask(3, "ca", &["b", "d"], |_| {});
    assert_eq!((answer.shared_tokens, answer.merged_tokens), (2, 1));
    assert_eq!((&answer.labels[0].tokens[..], &answer.labels[1].tokens[..]), (&[5][..], &[1, 4][..]));
    for (label, text) in answer.labels.iter().zip(["cab", "cad"]) {
        assert!((label.log_prob - by_hand(&model(3), text, 2)).abs() < 1e-6);
    }
    // What would come out if only the swallowing label began earlier is something else.
    assert!((answer.labels[1].log_prob - by_hand(&model(3), "cad", 3)).abs() > 0.1);
    assert_eq!(ask(3, "ca", &["c", "d"], |_| {}).merged_tokens, 0);
}

#[test]
fn what_is_compared_can_be_chosen() {
    let score = |normalize| {
        let answer = ask(9, "c", &["ab", "dd"], |question| question.normalize = normalize);
        answer.labels.into_iter().map(|label| label.score).collect::<Vec<_>>()
    };
    let after = |prompt: &str, label| by_hand(&model(9), &format!("{prompt}{label}"), 1 + prompt.len());
    let near = |found: Vec<f64>, expected: [f64; 2]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    };
    let (ab, dd) = (after("c", "ab"), after("c", "dd"));
    near(score(Normalize::Sum), [ab, dd]);
    near(score(Normalize::Tokens), [ab, dd / 2.0]);
    near(score(Normalize::Bytes), [ab / 2.0, dd / 2.0]);
    near(score(Normalize::Pmi), [ab - after("", "ab"), dd - after("", "dd")]);
}

#[test]
fn a_label_that_begins_another_is_told_from_it_by_the_end() {
    let open = ask(4, "c", &["d", "dc"], |_| {});
    assert!(open.labels[0].log_prob > open.labels[1].log_prob, "whatever follows");
    let (short, long) = open.prefix().expect("one begins the other");
    assert_eq!((&short.label[..], &long.label[..]), ("d", "dc"));
    assert_eq!(open.best().map(|label| &label.label[..]), Some("d"));
    let ended = ask(4, "c", &["d", "dc"], |question| question.end = Some(0));
    assert!(ended.prefix().is_none() && ended.labels[0].tokens == [4, 0]);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let labels = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<String>>();
    let refused = |labels: &[String], prompt: &str, normalize| {
        let question = Question { separator: "", normalize, ..Question::new(prompt, labels) };
        let bare = |text: &str| Ok(letters(text)[1..].to_vec());
        let mut model = CachedModel::new(model(1));
        classify(&mut model, &bare, &question).expect_err("no choice").to_string()
    };
    let sum = Normalize::Sum;
    assert_eq!(
        refused(&labels(&["a"]), "c", sum),
        "the number of labels is 1; at least 2 are needed to choose from"
    );
    assert!(refused(&labels(&["a", ""]), "c", sum).contains("label 2 of 2 is empty"));
    assert!(refused(&labels(&["a", "b", "a"]), "c", sum).contains("label `a` is given more than once"));
    assert!(
        refused(&labels(&["d", "b"]), "a", sum)
            .contains("before label `d`: a model needs at least one; give a longer prompt")
    );
    assert!(refused(&labels(&["d", "b"]), "c", Normalize::Pmi).contains("give a premise"));
}
