//! What is seen, as it is written and drawn.

use super::Reliability;
use drafthorse_engine::Provenance;
use drafthorse_logits::TokenId;
use serde::{Deserialize, Serialize};

/// A text and what expert and drafter think of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Inspection {
    /// Who says so.
    pub facts: Facts,
    /// Tokens of the whole text.
    pub tokens: usize,
    /// How many of them are the prompt.
    pub prompt_tokens: usize,
    /// Layers of the expert; 0 where they were not looked at.
    pub layers: usize,
    /// The positions that are shown, which are the last ones.
    pub positions: Vec<Position>,
    /// Means over them.
    pub summary: Summary,
    /// How the text was generated, if it was.
    pub generation: Option<Generation>,
    /// How far confidence can be trusted, where there is something to compare it with.
    pub reliability: Option<Reliability>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Which parts said what is seen, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Facts {
    /// The expert.
    pub expert: String,
    /// The drafter.
    pub drafter: String,
    /// The rule, with its dials.
    pub rule: String,
    /// What it promises.
    pub promise: String,
    /// How tokens are sampled.
    pub sampling: String,
    /// Where it was computed, and with what.
    pub machine: String,
}

/// A token of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Position {
    /// Its place in the text, from 0.
    pub index: usize,
    /// The token.
    pub id: TokenId,
    /// The text that becomes complete with it; the texts of all tokens are the whole text.
    pub text: String,
    /// The token by itself.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The round that generated it, from 1.
    pub round: Option<usize>,
    /// What the expert says here; nothing before the first token.
    pub expert: Option<Belief>,
    /// What the drafter says here, if it is a model and can read so far.
    pub drafter: Option<Belief>,
    /// The two compared.
    pub pair: Option<Pair>,
    /// What the expert thinks after each of its layers; the last cell is what it says. Without biases and penalties.
    pub lens: Vec<LensCell>,
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// It was given.
    Prompt,
    /// Drafted, and accepted.
    Drafted,
    /// Forced by a constraint, and accepted.
    Forced,
    /// Drafted; the cascade asked the expert, and it stands.
    Deferred,
    /// In the place of a drafted token that was refused.
    Replacement,
    /// On top, after all drafted tokens were accepted, or none was drafted.
    Bonus,
}

impl From<Provenance> for Origin {
    fn from(provenance: Provenance) -> Self {
        match provenance {
            Provenance::Drafted => Self::Drafted,
            Provenance::Forced => Self::Forced,
            Provenance::Deferred => Self::Deferred,
            Provenance::Replacement => Self::Replacement,
            Provenance::Bonus => Self::Bonus,
        }
    }
}

impl Origin {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Drafted => "drafted",
            Self::Forced => "forced",
            Self::Deferred => "deferred",
            Self::Replacement => "replacement",
            Self::Bonus => "bonus",
        }
    }
}

/// What one model says at a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Belief {
    /// Probability of the token that came.
    pub probability: f64,
    /// Its logarithm in nats; none for a token that is excluded.
    pub log_prob: Option<f64>,
    /// Probability of the token as it is sampled: after temperature and filters.
    pub sampled_probability: f64,
    /// One more than the number of tokens more probable.
    pub rank: usize,
    /// Entropy, in nats.
    pub entropy: f64,
    /// Probability of the most probable token.
    pub max_probability: f64,
    /// The most probable tokens, best first.
    pub candidates: Vec<Candidate>,
    /// How the logits of the row lie, as the model gave them.
    pub histogram: Histogram,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Candidate {
    /// The token.
    pub id: TokenId,
    /// The token by itself.
    pub name: String,
    /// Its probability.
    pub probability: f64,
}

/// How many logits of a row lie where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Histogram {
    /// The least finite logit: where the first bin begins.
    pub low: f32,
    /// The largest: where the last ends.
    pub high: f32,
    /// Number of logits in each of the bins, which are equally wide.
    pub counts: Vec<u32>,
    /// The logit of the token that came; none if it is not finite.
    pub token: Option<f32>,
    /// Tokens that are excluded.
    pub excluded: usize,
}

/// Drafter and expert compared, as tokens are sampled and at temperature 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Pair {
    /// After temperature and filters: what the engine does.
    pub sampled: Laws,
    /// At temperature 1, unfiltered: what the engine would do.
    pub raw: Laws,
}

/// Two laws, and what the rule makes of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Laws {
    /// The probability min(1, pi/q) with which the rule lets the token stand, had it been drafted; none if the drafter
    /// never says it.
    pub acceptance: Option<f64>,
    /// The probability with which a drafted token stands here: 1 less the total variation between the rule's law and
    /// the drafter's; the probability that both draw the same where that is what the rule asks for.
    pub expected_acceptance: f64,
    /// Total variation between expert and drafter, from 0 to 1.
    pub total_variation: f64,
}

/// What the expert thinks after a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct LensCell {
    /// The most probable token.
    pub id: TokenId,
    /// That token by itself.
    pub name: String,
    /// Its probability.
    pub probability: f64,
    /// Probability of the token that came.
    pub token_probability: f64,
}

/// How a text was generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Generation {
    /// Every round, in order.
    pub rounds: Vec<Round>,
    /// Tokens the drafter proposed in all.
    pub drafted: u64,
    /// Of them, those that were looked at.
    pub examined: u64,
    /// Of them, those that stand.
    pub accepted: u64,
    /// Tokens that a constraint forced and that stand, which are in none of the drafter's numbers.
    #[serde(default)]
    pub forced: u64,
    /// Tokens the text gained.
    pub emitted: u64,
    /// accepted / examined.
    pub acceptance_rate: Option<f64>,
    /// emitted / rounds.
    pub tokens_per_expert_pass: Option<f64>,
    /// Why the text ended, in words.
    pub finish: String,
}

/// A round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Round {
    /// Tokens the drafter proposed.
    pub drafted: usize,
    /// Of them, those that were looked at.
    pub examined: usize,
    /// Of them, those that stand.
    pub accepted: usize,
    /// Tokens that a constraint forced and that stand.
    #[serde(default)]
    pub forced: usize,
    /// Tokens the text gained.
    pub emitted: usize,
}

/// Means over the positions that are shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Summary {
    /// Of the expert.
    pub expert: Option<Mean>,
    /// Of the drafter.
    pub drafter: Option<Mean>,
    /// Of the two as tokens are sampled; the acceptance is over the tokens that the drafter can say.
    pub sampled: Option<Laws>,
    /// Of the two at temperature 1.
    pub raw: Option<Laws>,
}

/// What a model thinks of the text on average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Mean {
    /// Positions it speaks of.
    pub positions: usize,
    /// Mean log-probability of the tokens that came, in nats; none if one of them is excluded.
    pub log_prob: Option<f64>,
    /// `exp(-log_prob)`.
    pub perplexity: Option<f64>,
    /// Mean entropy, in nats.
    pub entropy: f64,
    /// Share of the tokens that are the most probable one.
    pub top: f64,
}

impl Summary {
    /// The means over `positions`.
    pub fn of(positions: &[Position]) -> Self {
        let pairs = || positions.iter().filter_map(|position| position.pair.as_ref());
        Self {
            expert: Mean::of(positions.iter().filter_map(|position| position.expert.as_ref())),
            drafter: Mean::of(positions.iter().filter_map(|position| position.drafter.as_ref())),
            sampled: Laws::mean(pairs().map(|pair| &pair.sampled)),
            raw: Laws::mean(pairs().map(|pair| &pair.raw)),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

impl Mean {
    fn of<'a>(beliefs: impl Iterator<Item = &'a Belief> + Clone) -> Option<Self> {
        let log_probs: Option<Vec<f64>> = beliefs.clone().map(|belief| belief.log_prob).collect();
        let log_prob = log_probs.and_then(|values| mean(values.into_iter()));
        Some(Self {
            positions: beliefs.clone().count(),
            log_prob,
            perplexity: log_prob.map(|mean| (-mean).exp()),
            entropy: mean(beliefs.clone().map(|belief| belief.entropy))?,
            top: mean(beliefs.map(|belief| f64::from(u8::from(belief.rank == 1))))?,
        })
    }
}

impl Laws {
    fn mean<'a>(laws: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        Some(Self {
            acceptance: mean(laws.clone().filter_map(|laws| laws.acceptance)),
            expected_acceptance: mean(laws.clone().map(|laws| laws.expected_acceptance))?,
            total_variation: mean(laws.map(|laws| laws.total_variation))?,
        })
    }
}
