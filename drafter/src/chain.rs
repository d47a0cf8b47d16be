use crate::{
    DraftRequest, Drafter, PartCounts,
    model::{best_is_enough, can_read, score_row},
};
use drafthorse_logits::{Draws, Logits, Memory, Origin, Proposal, Purpose, Scores, TokenId, Verdict};
use drafthorse_model::{CachedModel, LanguageModel, ModelError, SequenceModel, Vocabulary};
use std::sync::Arc;

/// A small model that drafts, with a smaller drafter that guesses what it will say.
///
/// The model reads the guesses in one pass, as an expert does, and each stands if it is the token the model draws there
/// anyway. So the proposal is that of a [`ModelDrafter`](crate::ModelDrafter) with the same model, to the last bit of
/// its scores, in fewer passes. It needs a model whose rows do not depend on how many are read at once.
///
/// Source: the vertical cascade of Chen et al., "Cascade Speculative Drafting", 2024, with guesses checked by equality.
pub struct ChainDrafter {
    model: Box<dyn SequenceModel>,
    guesser: Box<dyn Drafter>,
    name: String,
    passes: u64,
    guesses: PartCounts,
}

impl std::fmt::Debug for ChainDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChainDrafter {{ {} }}", self.name)
    }
}

/// A draft in the making.
struct Draft {
    proposal: Proposal,
    /// The sequence with what is drafted.
    text: Vec<TokenId>,
    memory: Memory,
    /// Whether it is as long as it should be.
    ended: bool,
}

/// What a model says after some tokens.
enum Rows {
    /// Its most probable tokens, where they are all that matters.
    Best(Vec<TokenId>),
    All(Logits),
}

/// Whether and why a draft goes on.
#[derive(PartialEq)]
enum State {
    /// More can be drafted.
    Open,
    /// It is as long as it should be, and the row after it is there if it is wanted.
    Complete,
    /// The model can say nothing more.
    Stuck,
}

impl ChainDrafter {
    /// Drafts with this model, which `guesser` drafts for.
    pub fn new<M: LanguageModel>(model: Arc<M>, guesser: impl Drafter + 'static) -> Self {
        let name = format!("{}>model", guesser.name());
        let (model, guesser) = (Box::new(CachedModel::new(model)), Box::new(guesser));
        Self { model, guesser, name, passes: 0, guesses: PartCounts::default() }
    }

    /// The same drafter, its model under another name in reports.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = format!("{}>{name}", self.guesser.name());
        self
    }

    /// Passes of the model so far, without those that read prompts.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// What the next tokens may be: as many as the draft and the model's context have room for.
    fn guess(
        &mut self,
        draft: &Draft,
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<TokenId>, ModelError> {
        let left = request.max.saturating_sub(draft.proposal.tokens.len());
        // The model's own token follows the guesses, unless only the row after it is wanted.
        let wanted = if draft.ended { 0 } else { left.saturating_sub(usize::from(!request.score_after)) };
        let max = wanted.min(self.model.context_len().saturating_sub(draft.text.len()));
        if max == 0 {
            return Ok(Vec::new());
        }
        let asked = DraftRequest {
            max,
            score_after: false,
            raw: false,
            memory: draft.memory,
            stop: None,
            ..*request
        };
        let known = self.model.vocab_size().min(request.vocab);
        self.guesses.asked += 1;
        let mut guesses = self.guesser.propose(&draft.text, &asked, draws)?.tokens;
        let readable = guesses.iter().take(max).take_while(|token| (**token as usize) < known).count();
        guesses.truncate(readable);
        Ok(guesses)
    }

    /// What the model says after each of the last `rows` tokens of `text`.
    fn read(
        &mut self,
        text: &[TokenId],
        rows: usize,
        request: &DraftRequest<'_>,
    ) -> Result<Rows, ModelError> {
        self.passes += 1;
        if best_is_enough(&*self.model, request) {
            match self.model.argmax(text, rows) {
                Err(ModelError::Logits(_)) => {}
                best => return best.map(Rows::Best),
            }
        }
        self.model.logits(text, rows).map(Rows::All)
    }

    /// One pass over the guesses.
    fn extend(
        &mut self,
        draft: &mut Draft,
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<State, ModelError> {
        let guesses = self.guess(draft, request, draws)?;
        let read = [&draft.text[..], &guesses].concat();
        let rows = self.read(&read, guesses.len() + 1, request)?;
        let before = draft.text.len();
        let (mut stood, mut state) = (0, State::Open);
        for index in 0..=guesses.len() {
            let Some(scores) = rows.score(index, draft, request)? else {
                state = State::Stuck;
                break;
            };
            if draft.ended {
                draft.proposal.scores.push(scores);
                state = State::Complete;
                break;
            }
            let is_guess = guesses.get(index) == Some(&draft.take(scores, request, draws));
            stood += usize::from(is_guess);
            if !is_guess || (draft.ended && !request.score_after) {
                break;
            }
        }
        self.guesses.used += u64::from(!guesses.is_empty());
        self.guesses.drafted += guesses.len() as u64;
        self.tell(&guesses, stood, &draft.text[before..]);
        Ok(state)
    }

    /// Tells the guesser what became of its guesses, the first `stood` of which are among `taken`.
    fn tell(&mut self, guesses: &[TokenId], stood: usize, taken: &[TokenId]) {
        let Some(&next) = taken.last().filter(|_| !guesses.is_empty()) else { return };
        // Where the draft ended with a guess, nothing was said about the others.
        let accepted = stood.min(taken.len() - 1);
        let refused = taken.len() > stood && stood < guesses.len();
        let origin = if refused { Origin::Replacement } else { Origin::Bonus };
        self.guesses.accepted += stood as u64;
        self.guesses.examined += stood as u64 + u64::from(refused);
        self.guesser.observe(&Verdict { accepted, next, origin });
    }
}

impl Rows {
    fn score(
        &self,
        index: usize,
        draft: &Draft,
        request: &DraftRequest<'_>,
    ) -> Result<Option<Scores>, ModelError> {
        match self {
            Self::Best(tokens) => Ok(tokens.get(index).map(|&token| Scores::point(token, request.vocab))),
            Self::All(logits) => score_row(logits.row(index), &draft.text, draft.memory, request),
        }
    }
}

impl Draft {
    /// Draws the next token.
    fn take(&mut self, scores: Scores, request: &DraftRequest<'_>, draws: &mut dyn Draws) -> TokenId {
        let token = draws.pick(self.text.len(), Purpose::Draft, scores.probs());
        self.memory = request.sampler.remember(self.memory, &scores, token);
        self.proposal.tokens.push(token);
        self.proposal.scores.push(scores);
        self.text.push(token);
        self.ended = request.ends(&self.proposal);
        token
    }
}

impl Drafter for ChainDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.model.vocab_size())
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.model.vocabulary()
    }

    fn context_len(&self) -> Option<usize> {
        Some(self.model.context_len())
    }

    fn is_calibrated(&self) -> bool {
        true
    }

    /// What was counted of the guesses.
    fn parts(&self) -> Vec<PartCounts> {
        vec![PartCounts { name: self.guesser.name().to_owned(), ..self.guesses.clone() }]
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        if can_read(&*self.model, sequence) {
            self.model.logits(sequence, 0)?;
        }
        self.guesser.prepare(sequence)
    }

    fn rest(&mut self) {
        self.guesser.rest();
    }

    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        self.guesser.end(sequence, prompt);
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        if !can_read(&*self.model, sequence) {
            return Ok(Proposal::empty());
        }
        let (proposal, text, memory) = (Proposal::empty(), sequence.to_vec(), request.memory);
        let ended = request.ends(&proposal);
        let mut draft = Draft { proposal, text, memory, ended };
        let mut state = State::Open;
        while state == State::Open
            && (request.score_after || !draft.ended)
            && draft.text.len() <= self.model.context_len()
        {
            state = self.extend(&mut draft, request, draws)?;
        }
        Ok(draft.proposal)
    }
}
