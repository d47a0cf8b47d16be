//! Whether parts fit together.

use crate::{DraftLength, Error, ErrorKind};
use drafthorse_drafter::Drafter;
use drafthorse_model::{Difference, Vocabulary};
use drafthorse_verifier::{AcceptanceRule, Verifier};

/// What the drafter must fit.
pub(crate) struct Expert<'a> {
    pub(crate) vocab: usize,
    pub(crate) vocabulary: Option<&'a Vocabulary>,
    pub(crate) context: usize,
}

impl<'a> Expert<'a> {
    pub(crate) fn of(verifier: &'a Verifier) -> Self {
        Self {
            vocab: verifier.vocab_size(),
            vocabulary: verifier.vocabulary(),
            context: verifier.context_len(),
        }
    }
}

/// Checks that drafter and expert speak of the same tokens.
///
/// Sizes may differ where the texts of the tokens are known on both sides and agree: rows of logits are
/// often padded.
///
/// # Errors
///
/// [`ErrorKind::Vocabulary`], naming the first difference.
pub fn check_pair(
    draft: (usize, Option<&Vocabulary>),
    expert: (usize, Option<&Vocabulary>),
) -> Result<(), Error> {
    if let (Some(left), Some(right)) = (draft.1, expert.1) {
        return match left.first_difference(right) {
            None => Ok(()),
            Some(difference) => Err(different_text(&difference, draft.0, expert.0)),
        };
    }
    if draft.0 == expert.0 {
        return Ok(());
    }
    let message =
        format!("vocabulary sizes differ: draft {}, expert {}; both need one tokenizer", draft.0, expert.0);
    Err(Error::new(ErrorKind::Vocabulary, message))
}

fn different_text(difference: &Difference, draft: usize, expert: usize) -> Error {
    let show = |text: &Option<String>| text.as_ref().map_or("nothing".to_owned(), |text| format!("`{text}`"));
    let sizes = if draft == expert {
        String::new()
    } else {
        format!(" (vocabulary sizes: draft {draft}, expert {expert})")
    };
    let (token, left, right) = (difference.token, show(&difference.left), show(&difference.right));
    let message = format!(
        "token {token} is {left} for the drafter, {right} for the expert{sizes}; both need one tokenizer"
    );
    Error::new(ErrorKind::Vocabulary, message)
}

/// Checks a drafter against an expert, a rule and a draft length.
pub(crate) fn check_drafter(
    drafter: &dyn Drafter,
    expert: &Expert<'_>,
    rule: &dyn AcceptanceRule,
    draft_length: &DraftLength,
) -> Result<(), Error> {
    if let Some(vocab) = drafter.vocab_size() {
        check_pair((vocab, drafter.vocabulary()), (expert.vocab, expert.vocabulary))?;
    }
    draft_length.check()?;
    let draft_length = draft_length.promised();
    let contexts = [("expert", Some(expert.context)), ("drafter", drafter.context_len())];
    for (part, context) in contexts {
        // One token to begin with, the draft, and one after it.
        let needed = draft_length.saturating_add(2);
        if let Some(context) = context.filter(|context| *context < needed) {
            let message = format!(
                "the {part}'s context of {context} tokens is too small for drafts of {draft_length}; at least {needed} are needed"
            );
            return Err(Error::new(ErrorKind::Context, message));
        }
    }
    check_rule(drafter, rule)
}

pub(crate) fn check_rule(drafter: &dyn Drafter, rule: &dyn AcceptanceRule) -> Result<(), Error> {
    rule.check()?;
    if rule.needs_calibrated_draft() && !drafter.is_calibrated() {
        let message = format!(
            "rule `{}` needs the drafter's own probabilities, and drafter `{}` has none; use a model as drafter, or another rule",
            rule.name(),
            drafter.name()
        );
        return Err(Error::new(ErrorKind::Rule, message));
    }
    Ok(())
}
