use super::{
    clock::{Clock, SystemClock},
    merit::{Merit, Probing},
};
use crate::{DraftRequest, Drafter, DrafterError, PartCounts};
use drafthorse_logits::{DraftTree, Draws, Proposal, TokenId, TreePlan, TreeVerdict, Verdict};
use drafthorse_model::{ModelError, Vocabulary};
use std::time::Duration;

/// Asks several drafters in the order of their merit, until one has something to say.
///
/// The merit of a drafter is how many tokens a second its rounds give, the expert's pass included, as far as verdicts
/// said. Now and then another one than the best is asked first, ever less often while nothing changes. A drafter that
/// knows how sure it is ([`Drafter::confidences`]) gives way to the next where it is not sure enough of its first token;
/// its proposal is used if nobody else has one. One whose rounds give no more than rounds without a draft would, or that
/// takes long to say nothing, is not asked at all but for those attempts, unless scores are wanted in any case: a bad
/// drafter does not spoil a good one.
///
/// The choice depends on rounds that are over and on what is said of distributions, never on a token, so every rule
/// keeps its law. It depends on times, too, so that the same seed need not give the same text, unless the rule follows
/// the noise of positions alone (exact match, coupled noise); a [`Clock`] that does not measure makes it repeatable.
///
/// Source: choosing among drafters by what verified texts say of them is in the spirit of `HedgeSpec`, 2026.
pub struct HybridDrafter {
    parts: Vec<Part>,
    name: String,
    min_confidence: f64,
    probing: Probing,
    clock: Box<dyn Clock>,
    /// Whose proposal the last was.
    chosen: Option<usize>,
    /// How long that took to draft, and when it was there.
    drafted: (Duration, Duration),
    /// When nobody had anything to say, if that was so in the last round.
    silent: Option<Duration>,
    /// The least time of a round in which nobody had.
    quiet: Option<Duration>,
}

/// One of the drafters of a hybrid.
struct Part {
    drafter: Box<dyn Drafter>,
    counts: PartCounts,
    merit: Merit,
}

impl Part {
    fn new(drafter: Box<dyn Drafter>) -> Self {
        let counts = PartCounts { name: drafter.name().to_owned(), ..PartCounts::default() };
        Self { drafter, counts, merit: Merit::default() }
    }
}

impl std::fmt::Debug for HybridDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HybridDrafter {{ {} }}", self.name)
    }
}

impl HybridDrafter {
    /// How sure a drafter must be of its first token if nothing else is said.
    pub const MIN_CONFIDENCE: f64 = 0.4;

    /// Asks these drafters; as long as nothing is known of their merit, in this order.
    ///
    /// # Errors
    ///
    /// Fewer than two, or two with different tokens.
    pub fn new(drafters: Vec<Box<dyn Drafter>>) -> Result<Self, DrafterError> {
        if drafters.len() < 2 {
            return Err(DrafterError::TooFew { given: drafters.len() });
        }
        for (at, right) in drafters.iter().enumerate() {
            drafters[..at].iter().try_for_each(|left| check_tokens(&**left, &**right))?;
        }
        let name = drafters.iter().map(Drafter::name).collect::<Vec<_>>().join("+");
        let parts = drafters.into_iter().map(Part::new).collect();
        let (probing, clock) = (Probing::default(), Box::new(SystemClock::default()));
        let (min_confidence, drafted) = (Self::MIN_CONFIDENCE, Default::default());
        let (chosen, silent, quiet) = (None, None, None);
        Ok(Self { parts, name, min_confidence, probing, clock, chosen, drafted, silent, quiet })
    }

    /// How sure of its first token a drafter must be not to give way; 0 to 1.
    ///
    /// # Errors
    ///
    /// [`DrafterError::OutOfRange`].
    pub fn with_min_confidence(mut self, value: f64) -> Result<Self, DrafterError> {
        if !(0.0..=1.0).contains(&value) {
            return Err(DrafterError::OutOfRange { option: "min confidence", value, range: "0 to 1" });
        }
        self.min_confidence = value;
        Ok(self)
    }

    /// Measures by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// In which order they are asked; `all` of them, or who may be of use.
    fn order(&mut self, all: bool) -> Vec<usize> {
        if let Some(silent) = self.silent.take() {
            let time = self.clock.now().saturating_sub(silent);
            self.quiet = Some(self.quiet.map_or(time, |quiet| quiet.min(time)));
        }
        let merits: Vec<_> = self.parts.iter().map(|part| part.merit).collect();
        self.probing.order(&merits, self.quiet, all)
    }

    /// Asks the drafters in the order of their merit; the first that is sure, or else the first that says anything, with
    /// what it says.
    fn ask<T>(&mut self, all: bool, mut ask: impl Ask<T>) -> Result<Option<T>, ModelError> {
        let (mut found, mut unsure) = (None, None);
        self.chosen = None;
        for index in self.order(all) {
            let start = self.clock.now();
            let part = &mut self.parts[index];
            part.counts.asked += 1;
            let said = ask(&mut *part.drafter)?;
            let time = self.clock.now().saturating_sub(start);
            let Some((said, tokens)) = said else {
                part.merit.lose(time);
                continue;
            };
            let sure = part.drafter.confidences().first().is_none_or(|first| *first >= self.min_confidence);
            let asked = Some((index, said, tokens, time));
            if sure {
                found = asked;
                break;
            }
            unsure = unsure.or(asked);
        }
        let Some((index, said, tokens, time)) = found.or(unsure) else { return Ok(None) };
        self.chosen = Some(index);
        self.drafted = (time, self.clock.now());
        self.parts[index].counts.used += 1;
        self.parts[index].counts.drafted += tokens as u64;
        Ok(Some(said))
    }

    /// Counts for the drafter whose proposal the last was; returns it.
    fn learn(&mut self, verdict: &Verdict) -> Option<&mut dyn Drafter> {
        let (time, since) = self.drafted;
        let part = &mut self.parts[self.chosen.take()?];
        part.merit.learn(verdict.accepted + 1, time, self.clock.now().saturating_sub(since));
        part.counts.examined += verdict.examined() as u64;
        part.counts.accepted += verdict.accepted as u64;
        Some(&mut *part.drafter)
    }
}

/// Asks a drafter; what it says, if anything, and how many tokens that are.
trait Ask<T>: FnMut(&mut dyn Drafter) -> Result<Option<(T, usize)>, ModelError> {}

impl<T, F: FnMut(&mut dyn Drafter) -> Result<Option<(T, usize)>, ModelError>> Ask<T> for F {}

/// What a drafter proposes, if anything.
fn chain(
    drafter: &mut dyn Drafter,
    sequence: &[TokenId],
    request: &DraftRequest<'_>,
    draws: &mut dyn Draws,
) -> Result<Option<(Proposal, usize)>, ModelError> {
    let proposal = drafter.propose(sequence, request, draws)?;
    let tokens = proposal.tokens.len();
    Ok((!proposal.scores.is_empty()).then_some((proposal, tokens)))
}

/// Whether two drafters can speak of the same tokens.
fn check_tokens(left: &dyn Drafter, right: &dyn Drafter) -> Result<(), DrafterError> {
    let difference = match (left.vocabulary(), right.vocabulary()) {
        (Some(a), Some(b)) => a.first_difference(b).map(|difference| format!("token {}", difference.token)),
        _ => match (left.vocab_size(), right.vocab_size()) {
            (Some(a), Some(b)) if a != b => Some(format!("{a} and {b} of them")),
            _ => None,
        },
    };
    let [left, right] = [left, right].map(|drafter| drafter.name().to_owned());
    difference.map_or(Ok(()), |difference| Err(DrafterError::Tokens { left, right, difference }))
}

impl Drafter for HybridDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> Option<usize> {
        self.parts.iter().filter_map(|part| part.drafter.vocab_size()).max()
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.parts.iter().find_map(|part| part.drafter.vocabulary())
    }

    /// The shortest of its parts: beyond it, the others are asked alone.
    fn context_len(&self) -> Option<usize> {
        self.parts.iter().filter_map(|part| part.drafter.context_len()).min()
    }

    fn is_calibrated(&self) -> bool {
        self.parts.iter().all(|part| part.drafter.is_calibrated())
    }

    fn is_stepwise(&self) -> bool {
        self.parts.iter().all(|part| part.drafter.is_stepwise())
    }

    fn prepare(&mut self, sequence: &[TokenId]) -> Result<(), ModelError> {
        self.parts.iter_mut().try_for_each(|part| part.drafter.prepare(sequence))
    }

    fn end(&mut self, sequence: &[TokenId], prompt: usize) {
        self.parts.iter_mut().for_each(|part| part.drafter.end(sequence, prompt));
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        let proposal = self
            .ask(request.score_after, |drafter: &mut dyn Drafter| chain(drafter, sequence, request, draws))?;
        if proposal.is_none() {
            self.silent = Some(self.clock.now());
        }
        Ok(proposal.unwrap_or_else(Proposal::empty))
    }

    fn observe(&mut self, verdict: &Verdict) {
        if let Some(drafter) = self.learn(verdict) {
            drafter.observe(verdict);
        }
    }

    fn drafts_trees(&self) -> bool {
        self.parts.iter().any(|part| part.drafter.drafts_trees())
    }

    /// The tree of the drafter that is asked. Of one that proposes no trees, its chain is the tree.
    fn propose_tree(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        plan: &TreePlan,
        draws: &mut dyn Draws,
    ) -> Result<Option<DraftTree>, ModelError> {
        self.ask(request.score_after, |drafter: &mut dyn Drafter| {
            let tree = if drafter.drafts_trees() {
                drafter.propose_tree(sequence, request, plan, draws)?
            } else {
                chain(drafter, sequence, request, draws)?.map(|(proposal, _)| DraftTree::chain(proposal))
            };
            Ok(tree.map(|tree| {
                let nodes = tree.len();
                (tree, nodes)
            }))
        })
    }

    fn observe_tree(&mut self, tree: &DraftTree, verdict: &TreeVerdict) {
        let chain = verdict.as_chain();
        match self.learn(&chain) {
            Some(drafter) if drafter.drafts_trees() => drafter.observe_tree(tree, verdict),
            Some(drafter) => drafter.observe(&chain),
            None => (),
        }
    }

    fn rest(&mut self) {
        self.silent = None;
        self.parts.iter_mut().for_each(|part| part.drafter.rest());
    }

    /// Models are as sure as their rows say, those that look tokens up as they have been right before.
    fn mixes_beliefs(&self) -> bool {
        self.parts.iter().any(|part| part.drafter.is_calibrated() || part.drafter.mixes_beliefs())
    }

    fn confidences(&self) -> &[f64] {
        self.chosen.map_or(&[], |part| self.parts[part].drafter.confidences())
    }

    fn parts(&self) -> Vec<PartCounts> {
        let counts = |part: &Part| {
            let tokens_per_second = Some(part.merit.rate()).filter(|rate| rate.is_finite());
            PartCounts { tokens_per_second, ..part.counts.clone() }
        };
        self.parts.iter().map(counts).collect()
    }
}
