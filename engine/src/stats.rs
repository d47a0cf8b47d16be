use crate::{Asked, Provenance, Speculation, Step};
use drafthorse_verifier::Price;
use std::time::Duration;

/// The numbers of a generation: its [`Step`]s, added up.
///
/// The rates are `None` while there is nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Rounds, which is passes of the expert after the prompt.
    pub rounds: u64,
    /// Rounds in which the drafter proposed something.
    pub rounds_with_draft: u64,
    /// Rounds in which it was asked for nothing on purpose: drafting would not have paid, or plain decoding was measured.
    pub idle_rounds: u64,
    /// Rounds with drafts to see whether drafting pays, where that was not known or it had not paid.
    pub probes: u64,
    /// Tokens the drafter proposed.
    pub drafted: u64,
    /// Of them, those that were looked at; where several competed for a position it counts once
    /// ([`Step::examined`](crate::Step)).
    pub examined: u64,
    /// Of them, those that were accepted.
    pub accepted: u64,
    /// Tokens that a constraint forced. They were proposed beside those of the drafter, cost no drafting, and are in
    /// none of the drafter's numbers and rates.
    pub forced: u64,
    /// Of them, those that were accepted.
    pub forced_accepted: u64,
    /// Tokens the text gained: each is drafted and accepted, forced and accepted, in the place of one that was refused, or
    /// on top. What a text ended before is in the other numbers and not in this one.
    pub emitted: u64,
    /// Refused tokens of the drafter, each with one in its place: accepted + replaced = examined.
    pub replaced: u64,
    /// Tokens of the text that came on top.
    pub bonus: u64,
    /// `accepted_at[i]`: in how many rounds token `i` (from 0) of the drafter's was accepted.
    pub accepted_at: Vec<u64>,
    /// Time to read the prompt, by drafter and expert.
    pub prompt_time: Duration,
    /// Time of drafting.
    pub draft_time: Duration,
    /// Time of the expert's passes.
    pub verify_time: Duration,
    /// Time of everything else within rounds.
    pub other_time: Duration,
    /// What a rule that is not lossless did to the text; nothing where it was not measured.
    pub price: Price,
    /// What a draft length that adapts last made of speculation; of texts that are added up, of the last.
    pub speculation: Option<Speculation>,
}

impl Stats {
    /// Adds a round.
    pub fn add(&mut self, step: &Step) {
        let count = |provenance| step.tokens.iter().filter(|t| t.provenance == provenance).count() as u64;
        self.rounds += 1;
        self.rounds_with_draft += u64::from(step.drafted > 0);
        self.idle_rounds += u64::from(step.asked == Asked::Idle);
        self.probes += u64::from(step.drafted > 0 && matches!(step.asked, Asked::Probe(_)));
        self.drafted += step.drafted as u64;
        self.examined += step.examined as u64;
        self.accepted += step.accepted as u64;
        self.forced += step.forced as u64;
        self.forced_accepted += step.forced_accepted as u64;
        self.emitted += step.tokens.len() as u64;
        self.replaced += (step.examined - step.accepted) as u64;
        self.bonus += count(Provenance::Bonus);
        self.accepted_at.resize(self.accepted_at.len().max(step.depth), 0);
        self.accepted_at[..step.accepted].iter_mut().for_each(|n| *n += 1);
        self.draft_time += step.draft_time;
        self.verify_time += step.verify_time;
        self.other_time += step.other_time;
        if let Some(price) = &step.price {
            self.price.merge(price);
        }
    }

    /// Adds the numbers of another generation.
    pub fn merge(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.rounds_with_draft += other.rounds_with_draft;
        self.idle_rounds += other.idle_rounds;
        self.probes += other.probes;
        self.drafted += other.drafted;
        self.examined += other.examined;
        self.accepted += other.accepted;
        self.forced += other.forced;
        self.forced_accepted += other.forced_accepted;
        self.emitted += other.emitted;
        self.replaced += other.replaced;
        self.bonus += other.bonus;
        self.accepted_at.resize(self.accepted_at.len().max(other.accepted_at.len()), 0);
        self.accepted_at.iter_mut().zip(&other.accepted_at).for_each(|(a, b)| *a += b);
        self.prompt_time += other.prompt_time;
        self.draft_time += other.draft_time;
        self.verify_time += other.verify_time;
        self.other_time += other.other_time;
        self.price.merge(&other.price);
        if other.speculation.is_some() {
            self.speculation.clone_from(&other.speculation);
        }
    }

    /// accepted / examined: how likely a drafted token stands once it is looked at.
    ///
    /// Source: Leviathan et al., 2023, Definition 3.1 (their alpha).
    pub fn acceptance_rate(&self) -> Option<f64> {
        ratio(self.accepted, self.examined)
    }

    /// accepted / drafted: what vLLM and llama.cpp call the acceptance rate.
    pub fn draft_yield(&self) -> Option<f64> {
        ratio(self.accepted, self.drafted)
    }

    /// drafted / rounds with drafts: how long drafts were.
    pub fn mean_draft_length(&self) -> Option<f64> {
        ratio(self.drafted, self.rounds_with_draft)
    }

    /// Share of the rounds without drafts on purpose.
    pub fn idle_share(&self) -> Option<f64> {
        ratio(self.idle_rounds, self.rounds)
    }

    /// Why there was no speculation in some or all of the rounds, in a sentence; `None` where it paid, or nobody asked.
    pub fn why_not(&self) -> Option<String> {
        let share = self.idle_share().filter(|share| *share > 0.0)?;
        let rounds = format!("no speculation in {:.0} % of the rounds", 100.0 * share);
        let Some(speculation) = &self.speculation else {
            return Some(format!("text too short to learn whether drafting pays: {rounds}"));
        };
        (!speculation.pays || share > 0.5).then(|| format!("{speculation}: {rounds}"))
    }

    /// emitted / rounds: mean acceptance length, block efficiency.
    pub fn tokens_per_expert_pass(&self) -> Option<f64> {
        ratio(self.emitted, self.rounds)
    }

    /// replaced / examined: how often a drafted token was refused.
    pub fn rejection_rate(&self) -> Option<f64> {
        ratio(self.replaced, self.examined)
    }

    /// Share of the drafted positions looked at where the rule asked the expert, before any coin; `None` for rules
    /// that always do.
    pub fn deferral_rate(&self) -> Option<f64> {
        ratio(self.price.deferred, self.price.decisions)
    }

    /// Drafted tokens that the drafter decided alone; `None` for rules by which it never does.
    pub fn draft_decided(&self) -> Option<u64> {
        (self.price.decisions > 0).then(|| self.price.decisions - self.price.deferred)
    }

    /// Mean total variation between the rule's law and the expert's along the text, from 0 to 1.
    pub fn mean_total_variation(&self) -> Option<f64> {
        let positions = self.price.positions;
        (positions > 0).then(|| self.price.total_variation / positions as f64)
    }

    /// Mean of `KL(law || expert)` in nats along the text: infinite where the law can say anything that the expert, as
    /// sampled, cannot.
    pub fn mean_kl(&self) -> Option<f64> {
        if self.price.unsupported > 0 { Some(f64::INFINITY) } else { self.mean_finite_kl() }
    }

    /// The same over the positions where it is finite.
    pub fn mean_finite_kl(&self) -> Option<f64> {
        let finite = self.price.positions - self.price.unsupported;
        (finite > 0).then(|| self.price.divergence / finite as f64)
    }

    /// Time of all rounds, without reading the prompt.
    pub fn decode_time(&self) -> Duration {
        self.draft_time + self.verify_time + self.other_time
    }

    /// Tokens per second of decoding, without reading the prompt.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.decode_time().as_secs_f64();
        (self.emitted > 0 && seconds > 0.0).then(|| self.emitted as f64 / seconds)
    }
}

fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}
