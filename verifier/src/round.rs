use crate::{AcceptanceRule, Needs};
use drafthorse_logits::{
    Draws, Guidance, LogProbs, LogProbsOf, LogProbsOptions, Logits, Memory, Origin, Proposal, Purpose,
    RowAnswer, RowQuestion, Sampler, Scores, TokenId, Verdict, drift::Certainty,
};

/// What is to be verified in a round.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Round<'a> {
    /// All tokens so far.
    pub sequence: &'a [TokenId],
    /// How many of them are the prompt.
    pub prompt: usize,
    /// What is remembered of them: surprises under the expert's law.
    pub memory: Memory,
    /// What may follow.
    pub proposal: &'a Proposal,
    /// Turns logits into scores.
    pub sampler: &'a Sampler,
    /// Whether the expert's logits are wanted besides, for [`Reading::log_probs`] and [`Reading::certainty`].
    pub keep_logits: bool,
    /// What the expert's logits are pushed away from, if anything.
    pub guide: Option<&'a Guide>,
}

/// Guidance without a classifier: the expert is moved away from what it says after another prompt, followed by the
/// same generated tokens.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Guide {
    /// The other prompt, never empty.
    pub negative: Vec<TokenId>,
    /// How far.
    pub guidance: Guidance,
}

/// What an expert says of a [`Round`], in the form its rule needs; [`Reading::judge`] decides.
#[derive(Clone, Debug)]
pub struct Reading {
    form: Form,
    logits: Option<Logits>,
}

#[derive(Clone, Debug)]
enum Form {
    /// Rows of scores, for any rule.
    Scores(Vec<Scores>),
    /// The probability of each drafted token and what would replace it; the bonus.
    Coupling(Vec<RowAnswer>),
    /// A token at each position.
    Draw(Vec<RowAnswer>),
}

impl Reading {
    pub(crate) fn scores(scores: Vec<Scores>) -> Self {
        Self { form: Form::Scores(scores), logits: None }
    }

    /// The answers to [`questions`], which were asked for a rule with these needs.
    pub(crate) fn answers(needs: Needs, answers: Vec<RowAnswer>) -> Self {
        let form = if needs == Needs::Coupling { Form::Coupling(answers) } else { Form::Draw(answers) };
        Self { form, logits: None }
    }

    /// The same with the logits it was made of.
    pub(crate) fn with_logits(self, logits: Option<Logits>) -> Self {
        Self { logits, ..self }
    }

    /// The rows it was read from, where they were brought here: one more than there are drafted tokens.
    pub fn rows(&self) -> Option<&[Scores]> {
        match &self.form {
            Form::Scores(rows) => Some(rows),
            Form::Coupling(_) | Form::Draw(_) => None,
        }
    }

    /// Log-probabilities of `token` at the `index`-th position of the round, from the row that predicts it; `None` if
    /// the round was read without its logits.
    ///
    /// # Panics
    ///
    /// If the round has no such position, or the vocabulary no such token.
    pub fn log_probs(&self, index: usize, token: TokenId, options: LogProbsOptions) -> Option<LogProbs> {
        let (logits, rows) = (self.logits.as_ref()?, self.rows()?);
        Some(match options.of {
            LogProbsOf::Raw => LogProbs::of_row(logits.row(index), token, options.top),
            LogProbsOf::Processed => LogProbs::of_scores(&rows[index], token, options.top),
        })
    }

    /// How sure the expert was at the `index`-th position of the round, by its own logits: what the sampler makes of them,
    /// be it a bias, a penalty, a grammar or a temperature, does not count. Under guidance they are the guided ones.
    /// `None` if the round was read without its logits.
    ///
    /// # Panics
    ///
    /// If the round has no such position.
    pub fn certainty(&self, index: usize) -> Option<Certainty> {
        self.logits.as_ref().map(|logits| Certainty::of(logits.row(index)))
    }

    /// What is remembered after `tokens`, which this round brought to the text.
    pub fn remember(&self, round: &Round<'_>, tokens: impl Iterator<Item = TokenId>) -> Memory {
        let rows = self.rows().unwrap_or_default();
        let after = |memory, (scores, token)| round.sampler.remember(memory, scores, token);
        rows.iter().zip(tokens).fold(round.memory, after)
    }

    /// Decides the round it is a reading of, by the rule it was read for.
    pub fn judge(&self, round: &Round<'_>, rule: &dyn AcceptanceRule, draws: &mut dyn Draws) -> Verdict {
        let position = round.sequence.len();
        let tokens = &round.proposal.tokens;
        match &self.form {
            Form::Scores(expert) => rule.judge(round.proposal, expert, position, draws),
            Form::Coupling(answers) => couple_answers(tokens, answers, position, draws),
            Form::Draw(answers) => match_draws(tokens, |index| answers[index].token),
        }
    }
}

/// What has to be asked of each row where rows are not wanted; `None` where the draws follow no numbers
/// known ahead, or the drafter's distributions are needed too.
pub(crate) fn questions(round: &Round<'_>, needs: Needs, draws: &dyn Draws) -> Option<Vec<RowQuestion>> {
    let (position, tokens) = (round.sequence.len(), &round.proposal.tokens);
    let ask = |index: usize| {
        let drafted = tokens.get(index).copied().filter(|_| needs == Needs::Coupling);
        let purpose = if drafted.is_some() { Purpose::Replacement } else { Purpose::Target };
        Some(RowQuestion { drafted, noise: draws.noise(position + index, purpose)? })
    };
    let certain = || round.proposal.scores.iter().all(|scores| scores.probs().as_point().is_some());
    match needs {
        Needs::Draw => (0..=tokens.len()).map(ask).collect(),
        Needs::Coupling if certain() => (0..=tokens.len()).map(ask).collect(),
        Needs::Coupling | Needs::Sampled | Needs::Raw => None,
    }
}

/// The first drafted token that is refused, with what comes instead.
pub(crate) fn first_refused(
    tokens: &[TokenId],
    mut decide: impl FnMut(usize, TokenId) -> Result<(), TokenId>,
) -> Option<Verdict> {
    tokens.iter().enumerate().find_map(|(accepted, &token)| {
        let next = decide(accepted, token).err()?;
        Some(Verdict { accepted, next, origin: Origin::Replacement })
    })
}

/// Tokens stand as long as they are what is drawn at their positions.
pub(crate) fn match_draws(tokens: &[TokenId], mut draw: impl FnMut(usize) -> TokenId) -> Verdict {
    let refused = first_refused(tokens, |index, token| {
        let next = draw(index);
        if next == token { Ok(()) } else { Err(next) }
    });
    refused.unwrap_or_else(|| bonus(tokens, draw(tokens.len())))
}

/// [`couple`](crate::couple) for tokens that were certain: each stands with its probability, and a
/// replacement was drawn where the row is.
fn couple_answers(
    tokens: &[TokenId],
    answers: &[RowAnswer],
    position: usize,
    draws: &mut dyn Draws,
) -> Verdict {
    let refused = first_refused(tokens, |index, _| {
        let RowAnswer { probability, token } = answers[index];
        let stands = probability >= 1.0 || draws.accept(position + index, probability);
        if stands { Ok(()) } else { Err(token) }
    });
    refused.unwrap_or_else(|| bonus(tokens, answers[tokens.len()].token))
}

pub(crate) fn bonus(tokens: &[TokenId], next: TokenId) -> Verdict {
    Verdict { accepted: tokens.len(), next, origin: Origin::Bonus }
}
